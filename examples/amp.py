"""Mixed precision: scale the losses, apply surgery, and let the scaler unscale and step.

Surgery is scale-equivariant, so a common scale of all losses changes no conflict. A gradient that
is not finite reaches `.grad`, and the scaler skips the step.
"""

import torch
from torch import nn

import pcgrad


def main(steps: int = 20) -> float:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU()).to(device)
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(2)).to(device)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=1e-2)
    scaler = torch.amp.GradScaler(device)
    orders = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, device=device)
    targets = [x[:, :1], -x[:, :1] + x[:, 1:2]]
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast(device, dtype):
            features = trunk(x)
            outputs = [head(features) for head in heads]
        # Losses are computed in float32, outside autocast.
        losses = [(y.float() - t).square().mean() for y, t in zip(outputs, targets, strict=True)]
        scaled = [scaler.scale(loss) for loss in losses]
        pcgrad.backward(scaled, trunk.parameters(), generator=orders)
        scaler.step(optimizer)
        scaler.update()
    return sum(loss.item() for loss in losses)


if __name__ == "__main__":
    print(main())
