"""The settings of the SAC loop."""

from dataclasses import dataclass
from typing import Literal

from system.settings import Block, described, given


@dataclass(frozen=True, kw_only=True)
class Sac(Block):
    """The settings of the SAC loop, in every experiment."""

    collections: int = described("Rounds of collecting samples and updating.", least=1)
    samples_per_collection: int = given(
        600, "Appendix J: 600", "Environment steps per task in one round.", least=1
    )
    updates_per_collection: int = given(
        600,
        "not given; base code: one per environment step",
        "Gradient steps in one round.",
        least=1,
    )
    batch_per_task: int = given(
        128, "Appendix J: 128", "Transitions per task in one gradient step.", least=1
    )
    layers: int = given(6, "Appendix J", "Fully connected layers of actor and critics.", least=1)
    width: int = given(160, "Appendix J: 160", "Units per hidden layer.", least=1)
    learning_rate: float = given(0.0003, "base code", "Learning rate at the start.", above=0)
    discount: float = given(0.99, "base code", "Discount of future rewards.", least=0, most=1)
    target_rate: float = given(
        0.005, "base code", "Rate of the target critics' moving average.", most=1, above=0
    )
    precision: Literal["float32", "bfloat16"] = given(
        "float32",
        "not given",
        "Number format of the products of the networks' hidden layers. Weights, losses, task "
        "gradients and Gramians stay in float32. A device without bfloat16 units runs in float32 "
        "and says so.",
    )
    horizon: int = given(
        150, "not given; 150 when the paper was written", "Environment steps per episode.", least=1
    )
    reward_function_version: Literal["v1", "v2"] = given(
        "v1",
        "not given; v1 when the paper was written",
        "Meta-World's reward functions, v1 of 2019 (up to thousands a step) "
        "or v2 of 2020 (0 to 10 a step).",
    )
    reward_scale: float = given(
        1.0,
        "not given",
        "Factor on the rewards that the critics see; recorded returns are unscaled.",
        above=0,
    )
    warm_up_paths: int = given(
        10,
        "base code: 10",
        "Episodes of uniformly random actions per task before the first collection.",
        least=1,
    )
    buffer_capacity: int = given(
        1000000,
        "base code: 1,000,000",
        "Transitions kept per task; a run never allocates more than it collects.",
        least=1,
    )
    evaluation_every: int = given(
        5,
        "not given",
        "Collections from one evaluation to the next; "
        "the policy is evaluated after the last one too.",
        least=1,
    )
    evaluation_episodes: int = given(
        5,
        "not given",
        "Episodes per task of one evaluation, with the mode of the policy as action; the learner "
        "does not see them.",
        least=0,
    )
    final_evaluation_episodes: int = given(
        50, "not given", "Episodes per task of the evaluation after the last collection.", least=0
    )
    curvature_every: int = given(
        0,
        "",
        "Updates between two measurements of the curvature; "
        "a collection's last update is always measured. 0 measures none.",
        least=0,
    )
    critic_surgery: Literal["separate", "joint"] = given(
        "separate", "", "One surgery for each critic, or one over both."
    )
    reduction: Literal["sum", "mean"] = given(
        "sum", "Algorithm 1", "Sum (Algorithm 1) or mean of the projected gradients."
    )
    order: Literal["random", "shared", "fixed"] = given(
        "random", "Algorithm 1", "Order in which the other tasks are visited."
    )


@dataclass(frozen=True, kw_only=True)
class Fleet(Sac):
    """Where and when the environments run."""

    workers: int = given(
        4,
        "",
        "Processes that run the environments; 0 runs them in the training process. "
        "Changes no number.",
        least=0,
    )
    overlap: bool = given(
        False,
        "",
        "Whether the environments step while the learner learns; the policy that acts is then "
        "one collection older.",
    )


@dataclass(frozen=True, kw_only=True)
class MetaWorld(Fleet):
    """Further settings of the experiments on Meta-World's task sets."""

    tasks: Literal["MT3", "MT10", "MT50"] | tuple[str, ...] = described(
        "A task set of Meta-World (MT3 is ours), or names of tasks."
    )
    goals: Literal["fixed", "varied"] = given(
        "fixed",
        "not given; Meta-World's MT10 and MT50 of that time kept all positions fixed",
        "Positions of objects and goals, one draw per task for all runs, "
        "or a new draw every episode.",
    )
    gradnorm_alpha: float = given(
        1.5,
        "not given; Chen et al. 2018: 1.5",
        "GradNorm's exponent of the training rates; with 0 all gradients get the same norm.",
        least=0,
        methods=("gradnorm",),
    )
    gradnorm_rate: float = given(
        0.025,
        "not given; Chen et al. 2018: 0.025",
        "Learning rate of GradNorm's weights.",
        above=0,
        methods=("gradnorm",),
    )
    cosreg_weight: float = given(
        0.1, "not given", "Factor of CosReg's penalty.", least=0, methods=("cosreg",)
    )
    weight_decay: float = given(
        0.0001,
        "our choice",
        "Factor of the L2 penalty, added to the gradient by the optimizer after surgery.",
        least=0,
        methods=("sac_weight_decay",),
    )
