"""PyTorch beside which a GPU's figures are read, on the same GPU: matrix multiplies, and RegNetY's training step.

    python3 bench/torch_reference.py [--network regnet_y_16gf] [--batch 16] [--json FILE]

Prints and writes milliseconds (median, least, greatest of 7) of matrix multiplies in f32, f16 and bf16, and of forward and
backward of torchvision's network over SEER's crops (2 x 224 + 4 x 96 px) in f32 and under AMP, with and without
channels_last. Without CUDA it runs tiny sizes on the CPU, to show that it works, and says so.
"""
import argparse
import json
import statistics
import time

import torch
import torchvision


def measure(action, rounds=7):
    def once():
        start = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - start)
    for _ in range(3):
        once()
    times = [once() for _ in range(rounds)]
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "samples": rounds}


def matmuls(device, sizes):
    for size in sizes:
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            if device.type == "cpu" and dtype == torch.float16:
                continue
            left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            found = measure(lambda: left @ right)
            name = str(dtype).removeprefix("torch.")
            yield {"name": f"matmul {size} {name}", "flops": 2 * size**3, **found}


def steps(device, network, batch, crops):
    for layout in (torch.contiguous_format, torch.channels_last):
        for amp in (None, torch.float16, torch.bfloat16):
            if device.type == "cpu" and amp == torch.float16:
                continue
            model = getattr(torchvision.models, network)()
            model.fc = torch.nn.Identity()
            model = model.to(device, memory_format=layout).train()
            views = [torch.randn(count * batch, 3, size, size, device=device).to(memory_format=layout)
                     for count, size in crops]

            def step():
                model.zero_grad(set_to_none=True)
                with torch.autocast(device.type, dtype=amp or torch.bfloat16, enabled=amp is not None):
                    loss = sum(model(view).float().sum() for view in views)
                loss.backward()

            found = measure(step)
            kind = "f32" if amp is None else "AMP " + str(amp).removeprefix("torch.")
            last = layout == torch.channels_last
            crop_text = " + ".join(f"{count}x{size}" for count, size in crops)
            yield {"name": f"{network} {crop_text} px, batch {batch}, {kind}{', channels_last' if last else ''}",
                   "imagesPerSecond": 1000 * batch / found["median"], **found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="regnet_y_16gf")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU: tiny sizes, no figure to compare with"
    print(f"PyTorch {torch.__version__} on {name}")
    if device.type == "cuda":
        # As PyTorch does by default: f32 matrix multiplies without tf32.
        torch.backends.cuda.matmul.allow_tf32 = False
        work = [*matmuls(device, [1024, 2048, 4096, 8192]), *steps(device, given.network, given.batch, [(2, 224), (4, 96)])]
    else:
        work = [*matmuls(device, [128]), *steps(device, "regnet_y_400mf", 2, [(2, 32), (4, 32)])]
    for entry in work:
        rate = f"{entry['flops'] / entry['median'] / 1e9:.2f} TFLOP/s" if "flops" in entry else \
            f"{entry['imagesPerSecond']:.1f} images/s"
        print(f"{entry['name']}: {entry['median']:.3f} [{entry['min']:.3f}, {entry['max']:.3f}] ms, {rate}")
    if given.json:
        with open(given.json, "w") as file:
            json.dump({"torch": torch.__version__, "device": name, "entries": work}, file, indent=1)


if __name__ == "__main__":
    main()
