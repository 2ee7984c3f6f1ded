"""Monitor conflicts: compute the paper's measures from the Gramian that every surgery returns.

Nothing is computed twice, and the host synchronises with a GPU only for the logged steps.
"""

import torch
from torch import nn

import pcgrad


def main(steps: int = 30, every: int = 10) -> list[tuple[int, float, float, float]]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(3))
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.05)
    orders = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6)
    targets = [x[:, :1], -x[:, :1], x[:, 1:2]]
    rows = []
    for step in range(1, steps + 1):
        features = trunk(x)
        losses = [(h(features) - t).square().mean() for h, t in zip(heads, targets, strict=True)]
        optimizer.zero_grad()
        gramian = pcgrad.backward(losses, trunk.parameters(), generator=orders).gramian
        optimizer.step()
        if step % every == 0:
            # The measures are symmetric, so each pair of tasks is counted once.
            pairs = torch.triu_indices(3, 3, offset=1)
            share = pcgrad.conflicting(gramian)[*pairs].double().mean()
            cosine = pcgrad.cosine(gramian)[*pairs].nanmean()
            magnitude = pcgrad.magnitude_similarity(gramian)[*pairs].nanmean()
            rows.append((step, share.item(), cosine.item(), magnitude.item()))
    return rows


if __name__ == "__main__":
    for step, share, cosine, magnitude in main():
        print(f"step {step}: {share:.0%} conflict, cos {cosine:.2f}, similarity {magnitude:.2f}")
