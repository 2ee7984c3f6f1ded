"""LoRA: apply surgery to the adapters of a frozen base.

The list of shared parameters may include frozen ones of any dtype and device, such as quantized
weights.
"""

import torch
from torch import Tensor, nn

import pcgrad


class Adapter(nn.Module):
    """A frozen layer plus a trainable update of low rank."""

    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        # With zero weights, training starts from the frozen layer.
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def main(steps: int = 40) -> tuple[float, float]:
    torch.manual_seed(0)
    trunk = nn.Sequential(Adapter(nn.Linear(6, 32)), nn.ReLU(), Adapter(nn.Linear(32, 32)))
    heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(2))
    trained = [p for p in [*trunk.parameters(), *heads.parameters()] if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    orders = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6)
    targets = [x[:, :1], -x[:, :1] + x[:, 1:2]]
    totals = []
    for _ in range(steps):
        features = trunk(x)
        losses = [(h(features) - t).square().mean() for h, t in zip(heads, targets, strict=True)]
        optimizer.zero_grad()
        pcgrad.backward(losses, trunk.parameters(), generator=orders)
        optimizer.step()
        totals.append(sum(loss.item() for loss in losses))
    return totals[0], totals[-1]


if __name__ == "__main__":
    print(main())
