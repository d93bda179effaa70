"""Golden figures of NT-Xent for tests/tensor/nt_xent_test.ts: `python3 generate_simclr.py > simclr.json`.

Two replicas of three images with two views each; the loss is the mean over all twelve rows (arXiv 2002.05709, eq. 1).
Made with PyTorch 1.13 in double precision. Replica-major rows, in a replica the first views before the second ones.
"""
import json

import torch

torch.manual_seed(5)
REPLICAS, IMAGES, DIM, TEMPERATURE = 2, 3, 5, 0.2
x = torch.randn(REPLICAS * 2 * IMAGES, DIM, dtype=torch.float64)
x = x.float().double().requires_grad_()
z = torch.nn.functional.normalize(x, dim=1)
logits = z @ z.T / TEMPERATURE
logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
own = 2 * IMAGES
targets = torch.tensor([row // own * own + (row % own + IMAGES) % own for row in range(len(z))])
losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
losses.mean().backward()
print(json.dumps({"replicas": REPLICAS, "images": IMAGES, "dim": DIM, "temperature": TEMPERATURE,
                  "x": x.detach().ravel().tolist(), "losses": losses.detach().tolist(),
                  "gradient": x.grad.ravel().tolist()}, separators=(",", ":")))
