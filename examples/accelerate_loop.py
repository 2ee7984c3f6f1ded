"""Hugging Face Accelerate: surgery replaces `accelerator.backward` in its training loop.

In a Hugging Face `Trainer`, override `training_step` with the same lines.
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pcgrad


def main(epochs: int = 2) -> float:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = nn.ModuleDict(
        {
            "trunk": nn.Sequential(nn.Linear(6, 32), nn.ReLU()),
            "first": nn.Linear(32, 1),
            "second": nn.Linear(32, 1),
        }
    )
    x = torch.randn(64, 6)
    data = DataLoader(TensorDataset(x, x[:, :1], -x[:, :1] + x[:, 1:2]), batch_size=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    orders = torch.Generator().manual_seed(0)
    # Gradients are averaged by pcgrad, so the wrapper of data parallelism is not called.
    parts = accelerator.unwrap_model(model)
    group = torch.distributed.group.WORLD if accelerator.num_processes > 1 else None
    for _ in range(epochs):
        for inputs, first, second in data:
            optimizer.zero_grad()
            features = parts["trunk"](inputs)
            losses = [
                (parts["first"](features) - first).square().mean(),
                (parts["second"](features) - second).square().mean(),
            ]
            pcgrad.backward(losses, parts["trunk"].parameters(), generator=orders, group=group)
            optimizer.step()
    return float(sum(loss.item() for loss in losses))


if __name__ == "__main__":
    print(main())
