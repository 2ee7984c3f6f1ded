"""Uncertainty weighting followed by surgery, the paper's combination on NYUv2.

`backward` receives the weighted losses. The parameters of the weights take no part in the dot
products; like heads, they receive plain gradients.
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
    # The scales of the tasks differ, which the weights balance.
    targets = [x[:, :1], 10 * x[:, 1:2]]
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
