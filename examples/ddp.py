"""DistributedDataParallel: average task gradients over the ranks before surgery.

With `group`, `backward` averages them, and every rank uses rank 0's orders. Surgery on each rank's
own gradients would be another algorithm.
"""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import pcgrad


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.trunk(x)
        return [head(features) for head in self.heads]


def train(rank: int, port: int, steps: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)  # the same model and the same orders on every rank
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(64, 6)[rank::2]
    targets = [x[:, :1], -x[:, :1]]
    for _ in range(steps):
        optimizer.zero_grad()
        # pcgrad averages the gradients, so the wrapper must not.
        with model.no_sync():
            outputs = model(x)
        losses = [(y - t).square().mean() for y, t in zip(outputs, targets, strict=True)]
        pcgrad.backward(losses, model.module.trunk.parameters(), group=dist.group.WORLD)
        optimizer.step()
    # All ranks took the same steps.
    weight = model.module.trunk[0].weight.detach()
    ranks = [torch.empty_like(weight) for _ in range(2)]
    dist.all_gather(ranks, weight)
    assert torch.equal(*ranks)
    dist.destroy_process_group()


def main(steps: int = 5, port: int = 29_655) -> None:
    mp.spawn(train, args=(port, steps), nprocs=2)


if __name__ == "__main__":
    main()
