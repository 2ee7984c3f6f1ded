"""Gradient accumulation: sum task gradients over micro-batches, then apply one surgery.

Surgery on every micro-batch would be another algorithm, which projects noisier gradients more
often. The accumulator also accepts one task at a time (`add([loss], tasks=[i])`), which keeps only
one task's graph in memory, and can store task gradients in a shorter dtype or on the CPU.
"""

import torch
from torch import nn

import pcgrad


def main(steps: int = 20, micro_batches: int = 4) -> float:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(2))
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.1)
    orders = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6)
    targets = [x[:, :1], -x[:, :1] + x[:, 1:2]]
    accumulator = pcgrad.Accumulator(trunk.parameters(), tasks=2, dtype=torch.float32, device="cpu")
    for _ in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for rows in torch.arange(len(x)).chunk(micro_batches):
            features = trunk(x[rows])
            losses = [
                # The sum over micro-batches is the mean over the whole batch.
                (head(features) - target[rows]).square().sum() / len(x)
                for head, target in zip(heads, targets, strict=True)
            ]
            accumulator.add(losses)
            total += sum(loss.item() for loss in losses)
        accumulator.backward(generator=orders)
        optimizer.step()
    return total


if __name__ == "__main__":
    print(main())
