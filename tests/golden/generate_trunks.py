#!/usr/bin/env python3
"""Logits of more published networks, by the formula of generate.py's case 8. Writes published_trunks.safetensors beside
itself. Needs Debian's python3-torch and python3-torchvision (torch 1.13, torchvision 0.14).
"""
import json, math, os, struct, zlib
import numpy as np
import torch
import torchvision

torch.set_default_dtype(torch.float64)


def formula(name, count):
    x = (np.arange(1, count + 1, dtype=np.uint64) * 0x9E3779B1 & 0xFFFFFFFF) ^ np.uint64(zlib.crc32(name.encode()))
    x ^= x >> np.uint64(16); x = x * np.uint64(0x85EBCA6B) & np.uint64(0xFFFFFFFF); x ^= x >> np.uint64(13)
    x = x * np.uint64(0xC2B2AE35) & np.uint64(0xFFFFFFFF); x ^= x >> np.uint64(16)
    return (x >> np.uint64(8)).astype(np.float64) / 2 ** 24


header, blobs, nets, offset, size = {}, [], {}, 0, 64
for name in ["regnet_x_400mf", "regnet_x_8gf", "resnet101"]:
    net = getattr(torchvision.models, name)().eval()
    with torch.no_grad():
        for n, v in net.state_dict().items():
            if n.endswith("num_batches_tracked"): continue
            u = torch.from_numpy(formula(n, v.numel())).reshape(v.shape)
            if v.dim() > 1: v.copy_((2 * u - 1) * math.sqrt(3 * v.shape[0] / v.numel()))
            elif n.endswith("running_mean") or n.endswith("bias"): v.copy_((u - 0.5) / 5)
            else: v.copy_(0.5 + u)
        x = torch.from_numpy(formula("input", 2 * 3 * size * size)).reshape(2, 3, size, size) * 2 - 1
        logits = net(x).numpy().astype(np.float32)
    nets[name] = {"image_size": size, "parameters": sum(p.numel() for p in net.parameters())}
    header["logits." + name] = {"dtype": "F32", "shape": list(logits.shape), "data_offsets": [offset, offset + logits.nbytes]}
    blobs.append(logits.tobytes()); offset += logits.nbytes
text = json.dumps({"__metadata__": {"networks": json.dumps(nets)}, **header}).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "published_trunks.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text))); f.write(text)
    for b in blobs: f.write(b)
