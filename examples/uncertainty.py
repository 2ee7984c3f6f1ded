"""Uncertainty weights first, then surgery: the paper's combination on NYUv2.

The losses that enter `backward` are weighted already. The weights' own parameters are no part of
the dot products: they get plain gradients, as heads do.
"""

import torch
from torch import nn

import pcgrad


def main(steps: int = 30) -> list[float]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(2))
    log_variances = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters(), log_variances], lr=1e-2)
    orders = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6)
    targets = [x[:, :1], 10 * x[:, 1:2]]  # scales differ
    for _ in range(steps):
        features = trunk(x)
        losses = [(h(features) - t).square().mean() for h, t in zip(heads, targets, strict=True)]
        weighted = [
            loss / (2 * s.exp()) + s / 2 for loss, s in zip(losses, log_variances, strict=True)
        ]
        optimizer.zero_grad()
        pcgrad.backward(weighted, trunk.parameters(), generator=orders)
        optimizer.step()
    return log_variances.exp().tolist()


if __name__ == "__main__":
    print(main())
