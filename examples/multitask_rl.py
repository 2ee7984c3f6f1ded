"""Multi-task RL: one batch per task, and all task gradients from one backward pass.

The recorder supports networks of `Linear` and `LayerNorm` layers. Rows are ordered by task. Pass
`rows` if tasks have different numbers of them, as while a replay buffer fills.
"""

import torch
from torch import nn

import pcgrad


def main(steps: int = 50, tasks: int = 4) -> float:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(8 + tasks, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(64, 1) for _ in range(tasks))
    optimizer = torch.optim.Adam([*critic.parameters(), *heads.parameters()], lr=3e-3)
    orders = torch.Generator().manual_seed(0)
    recorder = pcgrad.LinearRecorder(critic, tasks)
    for step in range(steps):
        rows = [16 + (5 * i + step) % 7 for i in range(tasks)]  # transitions of every task
        number = torch.arange(tasks).repeat_interleave(torch.tensor(rows))
        state = torch.randn(sum(rows), 8)
        value = state[:, :1] * (number.unsqueeze(1) - 1.5)  # the tasks disagree
        with recorder:
            features = critic(torch.cat([state, nn.functional.one_hot(number, tasks)], 1))
        parts = zip(heads, features.split(rows), value.split(rows), strict=True)
        losses = [(head(z) - v).square().mean() for head, z, v in parts]
        optimizer.zero_grad()
        recorder.backward(losses, rows=rows, generator=orders)
        optimizer.step()
    return sum(loss.item() for loss in losses)


if __name__ == "__main__":
    print(main())
