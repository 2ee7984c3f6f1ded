"""Hard parameter sharing: one SegNet with a head per task ("Split" in MTAN's tables)."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from multitask.models.segnet import DEPTHS, Trunk, initialize, make_heads


class Split(nn.Module):
    """A trunk and one head per task; with a single head it is the plain SegNet of "One Task".

    Under surgery is the whole trunk, which every task reaches. `wide` doubles the deepest stage's
    channels (512 -> 1024); `deep` doubles the number of convolutions of every stage. Both are the
    base code's ways to match MTAN's size; the heads do not change.
    """

    def __init__(
        self,
        heads: Mapping[str, int],
        widths: Sequence[int],
        *,
        wide: bool = False,
        deep: bool = False,
    ) -> None:
        super().__init__()
        if wide:
            widths = (*widths[:-1], 2 * widths[-1])
        # `wide` has widened the deepest stage; `deep` doubles the depth of every stage.
        self.trunk = Trunk(widths, [2 * depth for depth in DEPTHS] if deep else DEPTHS)
        self.heads = make_heads(heads, widths[0])
        initialize(self)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns the trunk's parameters, or none if there is one task."""
        return list(self.trunk.parameters()) if len(self.heads) > 1 else []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images [B, 3, H, W] to one prediction [B, outputs, H, W] per task."""
        maps = self.trunk(images).decoded[-1]
        return [head(maps) for head in self.heads]


class Separate(nn.Module):
    """A network for every task ("One Task", "STAN"): nothing is shared or under surgery."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns an empty list: no parameter is shared."""
        return []

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps images [B, 3, H, W] to one prediction [B, outputs, H, W] per task."""
        return [prediction for network in self.networks for prediction in network(images)]
