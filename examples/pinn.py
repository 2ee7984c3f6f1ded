"""A physics-informed network: u'' = -sin x on [0, pi] with u(0) = u(pi) = 0, so u = sin x.

The losses of the residual and of the boundary conflict over one network, whose parameters are all
shared. The input has gradients too, for u'', but takes no part in surgery.
"""

import math

import torch
from torch import Tensor, nn

import pcgrad


def derivative(u: Tensor, x: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return found


def main(steps: int = 300) -> float:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    orders = torch.Generator().manual_seed(0)
    inside = torch.linspace(0, math.pi, 40).unsqueeze(1).requires_grad_()
    ends = torch.tensor([[0.0], [math.pi]])
    for _ in range(steps):
        optimizer.zero_grad()
        slope = derivative(net(inside), inside)
        residual = (derivative(slope, inside) + inside.sin()).square().mean()
        boundary = net(ends).square().mean()
        pcgrad.backward([residual, boundary], net.parameters(), generator=orders)
        optimizer.step()
    with torch.no_grad():
        return float((net(inside) - inside.sin()).abs().max())


if __name__ == "__main__":
    print(f"largest error: {main():.3f}")
