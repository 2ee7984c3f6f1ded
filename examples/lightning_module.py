"""Lightning: surgery replaces `manual_backward` in manual optimization."""

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pcgrad


class TwoTasks(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.trunk = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(2))
        self.orders = torch.Generator().manual_seed(0)

    def training_step(self, batch: list[Tensor], index: int) -> None:
        x, *targets = batch
        features = self.trunk(x)
        losses = [
            (head(features) - target).square().mean()
            for head, target in zip(self.heads, targets, strict=True)
        ]
        optimizer = self.optimizers()
        optimizer.zero_grad()
        group = torch.distributed.group.WORLD if self.trainer.world_size > 1 else None
        pcgrad.backward(losses, self.trunk.parameters(), generator=self.orders, group=group)
        optimizer.step()
        self.log("loss", torch.stack(losses).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(epochs: int = 2) -> float:
    lightning.seed_everything(0)
    x = torch.randn(64, 6)
    data = DataLoader(TensorDataset(x, x[:, :1], -x[:, :1] + x[:, 1:2]), batch_size=16)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(TwoTasks(), data)
    return float(trainer.callback_metrics["loss"])


if __name__ == "__main__":
    print(main())
