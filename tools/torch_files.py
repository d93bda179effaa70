#!/usr/bin/env python3
"""The torch half of tools/check_torch_round_trip.ts: writes files for it to read, and loads what it wrote.

Needs only Debian's packages: python3-torch python3-torchvision (torch 1.13, torchvision 0.14).
  torch_files.py write DIR    writes every case; tests/golden/weights holds the result
  torch_files.py check DIR    loads DIR/ours_*.pth strictly and compares each element
  torch_files.py names DIR    writes DIR/names.json: names and shapes of torchvision's own networks

Weights follow a formula, so that both sides know them: element i of the tensor at place t of the state dict is
((7 i + 13 t) mod 64 - 32) / 16, plus 4 where it must be positive; integers count i + t.
"""
import collections, json, os, sys
import torch
import torch.nn as nn
import torchvision
from torchvision.models.regnet import BlockParams, RegNet

STEM, WIDTHS, DEPTHS, GROUP, CLASSES = 4, [8, 12], [1, 2], 4, 3


def network():
    params = BlockParams(depths=DEPTHS, widths=WIDTHS, group_widths=[GROUP] * 2, bottleneck_multipliers=[1.0] * 2,
                         strides=[2] * 2, se_ratio=0.25)
    net = RegNet(params, num_classes=CLASSES, stem_width=STEM)
    for place, (name, tensor) in enumerate(net.state_dict().items()):
        i = torch.arange(tensor.numel())
        values = i + place if tensor.dtype == torch.int64 else ((7 * i + 13 * place) % 64 - 32) / 16
        if name.endswith("running_var"): values = values + 4
        with torch.no_grad(): tensor.copy_(values.reshape(tensor.shape))
    return net


def vissl(state):
    """The same weights as a VISSL checkpoint: its nesting and its names, with what else lies beside them."""
    trunk, heads = collections.OrderedDict(), collections.OrderedDict()
    for name, tensor in state.items():
        name = name.replace("stem.", "_feature_blocks.conv1.stem.")
        for stage in (1, 2):
            name = name.replace(f"trunk_output.block{stage}.", f"_feature_blocks.res{stage + 1}.")
        name = name.replace(".proj.0.", ".proj.").replace(".proj.1.", ".bn.")
        name = name.replace(".f.c.0.", ".f.c.").replace(".f.c.1.", ".f.final_bn.")
        name = name.replace(".se.fc1.", ".se.excitation.0.").replace(".se.fc2.", ".se.excitation.2.")
        if name.startswith("fc."): heads["0.clf.0." + name[3:]] = tensor
        else: trunk[name] = tensor
    return {
        "phase_idx": 0, "iteration": 7, "loss": {}, "type": "consolidated", "lr": 0.5, "large": 2 ** 40,
        "classy_state_dict": {
            "train": True,
            "base_model": {"model": {"trunk": trunk, "heads": heads}, "meta": {"input_shape": (3, 8, 8)}},
            "optimizer": {"optim": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.5}]}},
            "hooks": {}, "meters": [],
        },
    }


def plain():
    """Every element type, tied tensors, one that is not row-major, a scalar, an empty one, a parameter."""
    i = torch.arange(6).reshape(2, 3)
    tied = torch.arange(4, dtype=torch.float32)
    flat = torch.arange(10, dtype=torch.float32)
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
    tensors = collections.OrderedDict((name, i.to(getattr(torch, name))) for name in names)
    tensors["tied.a"], tensors["tied.b"] = tied, tied
    tensors["first"], tensors["second"] = flat[:4], flat[4:]
    tensors["transposed"] = torch.arange(6, dtype=torch.float32).reshape(2, 3).t()
    tensors["channels_last"] = torch.arange(16, dtype=torch.float32).reshape(1, 4, 2, 2).contiguous(
        memory_format=torch.channels_last)
    tensors["scalar"], tensors["empty"] = torch.tensor(3, dtype=torch.int64), torch.zeros(0, 5)
    tensors["parameter"] = nn.Parameter(torch.tensor([0.5, -1.5]))
    return {"epoch": 3, "state_dict": tensors}


def write(folder):
    os.makedirs(folder, exist_ok=True)
    state = network().state_dict()
    save = lambda value, name, zipped: torch.save(
        value, os.path.join(folder, name), _use_new_zipfile_serialization=zipped)
    save(state, "regnet_torchvision.pth", True)
    save(vissl(state), "regnet_vissl.torch", False)
    save(plain(), "plain_zip.pth", True)
    save(plain(), "plain_stream.pth", False)


def flattened(value, path=""):
    for key, item in value.items():
        if isinstance(item, dict): yield from flattened(item, f"{path}{key}.")
        elif isinstance(item, torch.Tensor): yield f"{path}{key}", item


def same(ours, theirs):
    ours, theirs = dict(flattened(ours)), dict(flattened(theirs))
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, (name, ours[name].dtype, tensor.dtype)
        assert torch.equal(ours[name], tensor), name


def check(folder):
    at = lambda name: os.path.join(folder, name)
    net = network()
    state = net.state_dict()
    for name, tensor in list(state.items()): state[name] = tensor.clone()
    for how in ({}, {"weights_only": True}):
        net.load_state_dict(torch.load(at("ours_torchvision.pth"), **how), strict=True)
        same(net.state_dict(), state)
        ours = torch.load(at("ours_vissl.torch"), **how)["classy_state_dict"]["base_model"]["model"]
        same(ours, vissl(state)["classy_state_dict"]["base_model"]["model"])
        for name in ("ours_plain.pth", "ours_wide.pth"): same(torch.load(at(name), **how), plain()["state_dict"])
    tied = torch.load(at("ours_plain.pth"))
    assert tied["tied.a"].data_ptr() == tied["tied.b"].data_ptr(), "tied tensors came apart"
    print("torch", torch.__version__, "loaded 4 files strictly, with weights_only too; every element is equal")


def names(folder):
    builders = ["regnet_y_400mf", "regnet_y_800mf", "regnet_y_1_6gf", "regnet_y_3_2gf", "regnet_y_8gf", "regnet_y_16gf",
                "regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_x_3_2gf", "regnet_x_8gf", "regnet_x_16gf",
                "regnet_x_32gf", "resnet50", "resnet101", "resnet152", "resnext101_32x8d"]
    shapes = lambda net: [[name, list(tensor.shape)] for name, tensor in net.state_dict().items()]
    with open(os.path.join(folder, "names.json"), "w") as f:
        json.dump({name: shapes(getattr(torchvision.models, name)()) for name in builders}, f)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "check", "names"): sys.exit(__doc__)
    {"write": write, "check": check, "names": names}[sys.argv[1]](sys.argv[2])
