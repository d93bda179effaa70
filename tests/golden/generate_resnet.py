#!/usr/bin/env python3
"""A small ResNet of odd widths in groups, computed in float64 with torchvision's own bottleneck: features, stages, every
gradient, running statistics. Writes resnet_tiny.safetensors beside itself, in the layout of generate.py's case 1.

Needs Debian's python3-torch and python3-torchvision (torch 1.13, torchvision 0.14).
"""
import json, math, os, struct
import numpy as np
import torch
import torch.nn as nn
from torchvision.models.resnet import Bottleneck

torch.set_default_dtype(torch.float64)


class Narrow(Bottleneck):
    """Output over inner channels is 2, not 4."""
    expansion = 2


class ResNet(nn.Module):
    """torchvision's ResNet with explicit widths and no classifier."""
    def __init__(self, stem, inner, depths, groups):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(stem), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
        width = stem
        for i, (planes, depth) in enumerate(zip(inner, depths)):
            blocks = []
            for j in range(depth):
                stride, out = (2 if i > 0 and j == 0 else 1), planes * Narrow.expansion
                down = None
                if stride != 1 or width != out:
                    down = nn.Sequential(nn.Conv2d(width, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))
                # base_width / 64 * planes channels in all groups together, whatever rounding does to one group.
                block = Narrow(width, planes, stride, down, groups=groups, base_width=64 / groups + 1e-9)
                assert block.conv2.weight.shape[0] == planes
                blocks.append(block); width = out
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.stages = [getattr(self, f"layer{i + 1}") for i in range(len(depths))]

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        outputs = [x]
        for stage in self.stages: outputs.append(stage(outputs[-1]))
        return outputs[-1].mean((2, 3)), outputs


def save(path, tensors, **meta):
    header, blobs, offset = {"__metadata__": {k: json.dumps(v) for k, v in meta.items()}}, [], 0
    for name, t in tensors.items():
        a = np.ascontiguousarray(t.detach().numpy().astype(np.float32))
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [offset, offset + a.nbytes]}
        blobs.append(a.tobytes()); offset += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text))); f.write(text)
        for b in blobs: f.write(b)


gen = torch.Generator().manual_seed(2000)
stem, inner, depths, groups = 9, [6, 15], [1, 2], 3
net = ResNet(stem, inner, depths, groups)
for name, p in net.named_parameters():
    r = torch.rand(p.shape, generator=gen)
    with torch.no_grad():
        if p.dim() > 1: p.copy_((r * 2 - 1) * math.sqrt(3.0 / p[0].numel()))
        elif name.endswith("bias"): p.copy_((r - 0.5) * 0.2)
        else: p.copy_(r + 0.5)
for name, b in net.named_buffers():
    if name.endswith("running_mean"): b.copy_((torch.rand(b.shape, generator=gen) - 0.5) * 0.2)
    if name.endswith("running_var"): b.copy_(torch.rand(b.shape, generator=gen) + 0.5)
x = torch.rand(3, 3, 45, 45, generator=gen) * 2 - 1
t = {"input": x}
for n, v in net.state_dict().items():
    if not n.endswith("num_batches_tracked"): t["weight." + n] = v.clone()
net.eval()
with torch.no_grad(): t["eval.features"] = net(x)[0]
net.train()
y, outputs = net(x)
w = torch.rand(y.shape, generator=gen) * 2 - 1
t["loss_weight"] = w  # loss = sum(features * loss_weight)
(y * w).sum().backward()
t["train.features"] = y
for n, v in zip(["stem"] + [f"stage{i + 1}" for i in range(len(depths))], outputs): t["train." + n] = v
for n, p in net.named_parameters(): t["grad." + n] = p.grad
for n, b in net.named_buffers():
    if "running" in n: t["after." + n] = b
save(os.path.join(os.path.dirname(os.path.abspath(__file__)), "resnet_tiny.safetensors"), t, stem_width=stem,
     widths=[2 * c for c in inner], depths=depths, groups=groups, bottleneck=2)
