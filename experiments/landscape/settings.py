"""Figure 1, the two-dimensional landscape of Appendix D: the paper's settings."""

from dataclasses import dataclass

from system.settings import Block, given


@dataclass(frozen=True, kw_only=True)
class Settings(Block):
    """Figure 1; Appendix D."""

    learning_rate: float = given(0.001, "Appendix D", "Adam's learning rate.", above=0)
    updates: int = given(
        500000, "Appendix D: 500,000", "Number of updates from every start.", least=1
    )
    betas: tuple[float, float] = given(
        (0.9, 0.999),
        "not given; Adam's defaults",
        "Adam's decay rates of the two moments.",
        least=0,
    )
    epsilon: float = given(1e-08, "not given; Adam's default", "Adam's epsilon.", least=0)
    starts: tuple[tuple[float, float], ...] = given(
        (
            (0.5, -3.0),
            (-5.0, -3.0),
            (-5.0, 0.0),
            (-5.0, 3.0),
            (-1.0, -3.0),
            (-1.0, 0.0),
            (-1.0, 3.0),
            (3.0, -3.0),
            (3.0, 0.0),
            (3.0, 3.0),
        ),
        "the first is Appendix D's; the others, a 3 x 3 grid, show how far the verdict depends on "
        "it",
        "Starting points; the first one is drawn in the figure.",
    )
    stored_points: int = given(5000, "", "Points kept of each trajectory.", least=2)
