"""Figure 1: runs Adam and Adam + PCGrad on the landscape of Appendix D.

    python -m experiments.landscape.run --config config/quick.yaml --out results/quick/landscape

    L1(θ) = 20 log max(|u1|, 5e-6),  u1 = θ1/2 + tanh θ2
    L2(θ) = 25 log max(|u2|, 5e-6),  u2 = θ1/2 − tanh θ2 + 2,      L = L1 + L2

The valley of task i is the curve u_i = 0. Because u1 + u2 = θ1 + 2 and u2 − u1 = 2 (1 − tanh θ2),
the valleys meet only in the limit θ1 = −2, θ2 → ∞. The floor turns this limit into a set: L has its
least value 45 log 5e-6 where |u1| and |u2| are at most 5e-6, so |θ1 + 2| ≤ 1e-5 and
θ2 ≥ artanh(1 − 5e-6) = 6.449.

The floor is 1e-5 wide, but Adam with learning rate 1e-3 oscillates about a valley by 1e-2 in u, so
that no trajectory can stay on the floor. The verdict on an end point therefore counts the valleys
with |u_i| ≤ TOLERANCE: in both valleys the point is at the joint optimum. The tolerance applies to
u and not to θ2, because tanh is flat for θ2 above 3, where the valleys coincide.

The paper does not give the precision; ours is float64. Every start and both methods are one batch,
which always runs on the CPU because it is tiny. The command writes trajectories.npz, surface.npz,
vectors.json (Figure 2) and summary.json.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import trange

from experiments import config as configs
from multitask.runs.errors import UserError
from multitask.runs.provenance import commit, machine, versions
from multitask.runs.sources import entry_hash
from pcgrad import (
    cosine,
    curvature_estimate,
    fixed_orders,
    magnitude_similarity,
    project_conflicting,
    surgery_coefficients,
)
from system import command
from system.writing import probe, whole, write_json

VARIANTS = ("adam", "adam_pcgrad")  # the first axis of every batch
FLOOR = 5e-6
TOLERANCE = 0.05  # between Adam's oscillation (1e-2) and the distance of the valleys (up to 4)
JOINT_THETA = (-2.0, math.atanh(1 - FLOOR))  # the end point of the half-line of joint optima
VERDICTS = {
    (True, True): "joint optimum",
    (True, False): "task 1's valley",
    (False, True): "task 2's valley",
    (False, False): "elsewhere",
}
# Along the update that was made, then along the plain gradient step.
CURVATURES = (
    "curvature_remainder",
    "curvature_definition3",
    "plain_step_curvature_remainder",
    "plain_step_curvature_definition3",
)
# The part of the plane that Figure 1 shows.
SURFACE = {"theta1": (-6.5, 4.5), "theta2": (-5.0, 7.5)}
SURFACE_POINTS = 281
SETTINGS = ("learning_rate", "updates", "betas", "epsilon", "starts", "stored_points")

_SCALE = torch.tensor([20.0, 25.0], dtype=torch.float64)
_SIGN = torch.tensor([1.0, -1.0], dtype=torch.float64)
_OFFSET = torch.tensor([0.0, 2.0], dtype=torch.float64)


def arguments(theta: Tensor) -> Tensor:
    """u1, u2 [..., 2] at the points θ [..., 2]; the valleys are their zeros."""
    return 0.5 * theta[..., :1] + _SIGN * theta[..., 1:].tanh() + _OFFSET


def losses(theta: Tensor) -> Tensor:
    """L1, L2 [..., 2] at the points θ [..., 2] (Appendix D)."""
    return _SCALE * arguments(theta).abs().clamp(min=FLOOR).log()


def gradients(theta: Tensor) -> Tensor:
    """∇L1, ∇L2 [..., task, 2] in closed form.

    They are c_i/u_i (1/2, ± sech² θ2), and zero on the floor.
    """
    tanh = theta[..., 1:].tanh()
    # The operations of `arguments`, fused: this function is called at every update.
    u = torch.addcmul(_OFFSET, _SIGN, tanh).add_(theta[..., :1], alpha=0.5)
    factor = torch.where(u.abs() > FLOOR, _SCALE / u, 0.0)
    slope = _SIGN * (1 - tanh * tanh)
    return torch.stack((0.5 * factor, slope * factor), dim=-1)


@torch.no_grad()
def optimize(
    starts: Tensor,
    *,
    updates: int,
    learning_rate: float,
    betas: Sequence[float],
    epsilon: float,
    stored_points: int,
) -> dict[str, Tensor]:
    """Run both variants from every start.

    Returns:
        `update` [K], `theta` and `before` [K, variant, start, 2]. The K kept updates are evenly
        spaced and include 0 and the last; `before` is the point one update earlier.
    """
    theta = torch.nn.Parameter(starts.expand(len(VARIANTS), *starts.shape).clone())
    optimizer = torch.optim.Adam([theta], lr=learning_rate, betas=(betas[0], betas[1]), eps=epsilon)
    orders = fixed_orders(2)  # with two tasks there is one order
    # Adam alone keeps the weights of the plain sum.
    weights = torch.ones(len(VARIANTS), len(starts), 1, 2, dtype=theta.dtype)
    pcgrad_weights = weights[VARIANTS.index("adam_pcgrad")].squeeze(-2)

    kept = np.unique(
        np.linspace(0, updates, min(stored_points, updates + 1)).round().astype(int)
    ).tolist()
    points, before = [theta.detach().clone()], [theta.detach().clone()]
    for update in trange(1, updates + 1, desc="landscape", disable=None, mininterval=1):
        task_gradients = gradients(theta)
        surgical = task_gradients[VARIANTS.index("adam_pcgrad")]
        coefficients = surgery_coefficients(surgical @ surgical.mT, orders)
        torch.sum(coefficients, dim=-2, out=pcgrad_weights)
        theta.grad = (weights @ task_gradients).squeeze(-2)
        # Keep the point on both sides of a stored update; `measure` needs the segment.
        if update == kept[len(points)]:
            before.append(theta.detach().clone())
            optimizer.step()
            points.append(theta.detach().clone())
        else:
            optimizer.step()
    return {
        "update": torch.tensor(kept),
        "theta": torch.stack(points),
        "before": torch.stack(before),
    }


def curvature(theta: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Curvature of L along the segment d = after − θ in two forms, [...] each, per unit of ‖d‖².

        remainder:     2 [L(after) − L(θ) − ∇L(θ)ᵀd]  =  2 ∫₀¹ (1−a) dᵀ∇²L(θ + a d) d da
        definition 3:  [∇L(after) − ∇L(θ)]ᵀ d         =    ∫₀¹       dᵀ∇²L(θ + a d) d da

    The remainder is Section 5.3's estimator. The differences on the left include the jump of the
    gradient across a valley, which is the large positive curvature. Away from the floors log|u| is
    concave in u.
    """
    step, slope = after - theta, gradients(theta).sum(-2)
    length = step.square().sum(-1)
    remainder = curvature_estimate(
        losses(theta).sum(-1), losses(after).sum(-1), (slope * step).sum(-1)
    )
    return remainder / length, ((gradients(after).sum(-2) - slope) * step).sum(-1) / length


def measure(theta: Tensor, before: Tensor, learning_rate: float) -> dict[str, Tensor]:
    """Losses, arguments and the triad's measures at the points θ [..., 2].

    The curvature is measured along two segments: the update before → θ that was made, and the plain
    gradient step θ − t g at the same rate (Theorem 2's θ^MT). Adam's steps are short compared with
    its oscillation, so the update alone would seldom cross a valley's floor.
    """
    loss, slope = losses(theta), gradients(theta)
    gramian = slope @ slope.mT
    forms = (*curvature(before, theta), *curvature(theta, theta - learning_rate * slope.sum(-2)))
    return {
        "losses": loss,
        "arguments": arguments(theta),
        "gradients": slope,
        "norms": gramian.diagonal(dim1=-2, dim2=-1).sqrt(),
        "cosine": cosine(gramian)[..., 0, 1],
        "magnitude_similarity": magnitude_similarity(gramian)[..., 0, 1],
        **dict(zip(CURVATURES, forms, strict=True)),
    }


def verdict(theta: Tensor) -> str:
    """The verdict on one end point θ [2], as defined at the top of this file."""
    first, second = (arguments(theta).abs() <= TOLERANCE).tolist()
    return VERDICTS[first, second]


def distance_to_optimum(theta: Tensor) -> float:
    """Euclidean distance of θ [2] to the half-line θ1 = −2, θ2 ≥ 6.449 of joint optima."""
    return math.hypot(theta[0].item() - JOINT_THETA[0], max(0.0, JOINT_THETA[1] - theta[1].item()))


def summarize_run(
    update: Tensor, theta: Tensor, before: Tensor, learning_rate: float
) -> dict[str, Any]:
    """Summarize the end point and the last tenth of one trajectory (`theta`, `before` [K, 2])."""
    end = {name: value[-1] for name, value in measure(theta, before, learning_rate).items()}
    tail = update > 0.9 * update[-1]
    late = measure(theta[tail], before[tail], learning_rate)
    # The first stored point after which the trajectory stays at the joint optimum.
    outside = (arguments(theta).abs() > TOLERANCE).any(-1).nonzero()
    settled = int(outside[-1]) + 1 if len(outside) else 0
    return {
        "start": theta[0].tolist(),
        "end": theta[-1].tolist(),
        "verdict": verdict(theta[-1]),
        "distance_to_optimum": distance_to_optimum(theta[-1]),
        "at_joint_optimum_since_update": int(update[settled]) if settled < len(update) else None,
        "L": end["losses"].sum().item(),
        **{f"L{i + 1}": end["losses"][i].item() for i in range(2)},
        **{f"u{i + 1}": end["arguments"][i].item() for i in range(2)},
        **{f"g{i + 1}": end["gradients"][i].tolist() for i in range(2)},
        **{f"g{i + 1}_norm": end["norms"][i].item() for i in range(2)},
        **{name: _number(end[name]) for name in ("cosine", "magnitude_similarity", *CURVATURES)},
        "last_tenth": {
            "points": int(tail.sum()),
            "moved": (theta[-1] - theta[tail][0]).tolist(),
            "median_L": late["losses"].sum(-1).median().item(),
            "median_distance_to_valley_1": late["arguments"][:, 0].abs().median().item(),
            "median_distance_to_valley_2": late["arguments"][:, 1].abs().median().item(),
            "conflict_share": _number((late["cosine"] < 0).double().mean()),
            "median_norm_ratio": _number((late["norms"][:, 0] / late["norms"][:, 1]).nanmedian()),
            "median_magnitude_similarity": _number(late["magnitude_similarity"].nanmedian()),
            **{f"median_{form}": _number(late[form].nanmedian()) for form in CURVATURES},
            **{
                f"{form}_positive_share": _number((late[form] > 0).double().mean())
                for form in CURVATURES
            },
        },
    }


def _number(value: Tensor) -> float | None:
    """A finite number, or None if it is undefined, as the cosine of a zero gradient.

    JSON has no NaN.
    """
    return value.item() if math.isfinite(value.item()) else None


def summarize(trajectories: dict[str, Tensor], learning_rate: float) -> dict[str, Any]:
    """Summarize all runs by variant, in the order of the starts, and the paper's claim."""
    update, theta, before = trajectories["update"], trajectories["theta"], trajectories["before"]
    runs = {
        variant: [
            summarize_run(update, theta[:, v, s], before[:, v, s], learning_rate)
            for s in range(theta.shape[2])
        ]
        for v, variant in enumerate(VARIANTS)
    }
    found = {variant: runs[variant][0]["verdict"] for variant in VARIANTS}
    claimed = {"adam": "task 1's valley", "adam_pcgrad": "joint optimum"}
    counts = {v: sum(run["verdict"] == "joint optimum" for run in runs[v]) for v in VARIANTS}
    return {
        "tolerance": TOLERANCE,
        "global_minimum": 45 * math.log(FLOOR),
        "claim": {"claimed": claimed, "found": found, "as_claimed": found == claimed},
        "reached_joint_optimum": {**counts, "starts": theta.shape[2]},
        "runs": runs,
    }


def surface() -> dict[str, np.ndarray]:
    """L1 and L2 on a grid: `theta1` [N], `theta2` [N], `losses` [2, N (θ2), N (θ1)]."""
    theta1, theta2 = (
        torch.linspace(*ends, SURFACE_POINTS, dtype=torch.float64) for ends in SURFACE.values()
    )
    grid = torch.stack(torch.meshgrid(theta1, theta2, indexing="xy"), dim=-1)
    return {
        "theta1": theta1.numpy(),
        "theta2": theta2.numpy(),
        "losses": losses(grid).movedim(-1, 0).float().numpy(),
    }


def schematic() -> dict[str, Any]:
    """Figure 2's vectors: a conflicting and a non-conflicting pair, before and after projection."""
    result = {}
    for name, degrees in (("conflicting", (15.0, 130.0)), ("not_conflicting", (30.0, 85.0))):
        angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
        pair = torch.stack((angles.cos(), angles.sin()), dim=-1) * torch.tensor(
            [[1.0], [0.8]], dtype=torch.float64
        )
        projected = project_conflicting(pair, fixed_orders(2))
        named = zip(
            ("g_i", "g_j", "g_i_pc", "g_j_pc"), (*pair.tolist(), *projected.tolist()), strict=True
        )
        result[name] = {**dict(named), "cosine": cosine(pair @ pair.mT)[0, 1].item()}
    return result


def run(settings: dict[str, Any], out: Path) -> None:
    """Optimize, summarize and write the four files, after everything is computed."""
    starts = torch.tensor(settings["starts"], dtype=torch.float64)
    torch.set_num_threads(settings["torch_threads"])
    wall, core = time.monotonic(), time.process_time()
    optimizer = {key: settings[key] for key in SETTINGS if key != "starts"}
    try:
        trajectories = optimize(starts, **optimizer)
    # torch.optim.Adam raises these for a bad rate, beta or epsilon.
    except (TypeError, ValueError) as error:
        raise UserError(f"experiments.landscape: {error}; mend the config") from None
    wall, core = time.monotonic() - wall, time.process_time() - core
    if not trajectories["theta"].isfinite().all():
        raise UserError(
            "experiments.landscape: θ is not finite; lower learning_rate or raise epsilon"
        )

    summary = {
        "scale": settings["scale"],
        "settings": {key: settings[key] for key in SETTINGS}
        | {"torch_threads": settings["torch_threads"]},
        "seconds": round(wall, 1),
        "core_seconds": round(core, 1),
        "code_hash": entry_hash("experiments.landscape.run", "run"),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        **summarize(trajectories, settings["learning_rate"]),
    }
    vectors = {"scale": settings["scale"], **schematic()}
    save_arrays(out / "surface.npz", **surface())
    points = {name: trajectories[name].numpy() for name in ("update", "theta")}
    save_arrays(
        out / "trajectories.npz", **points, variants=np.array(VARIANTS), starts=starts.numpy()
    )
    write_json(out / "vectors.json", vectors)
    write_json(out / "summary.json", summary)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an .npz file atomically, so that a reader sees all of it or nothing."""
    with whole(path, "w+b") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def work(arguments: Sequence[str] | None) -> None:
    """Parse the command line and run the experiment."""
    parser = command.Parser(
        prog="python -m experiments.landscape.run", description="Figures 1 and 2: data"
    )
    parser.add_argument("--config", required=True, help="a YAML file, or JSON text")
    parser.add_argument(
        "--out", required=True, type=command.place, help="folder for the four files"
    )
    args = parser.parse_args(arguments)
    # A folder that cannot be written is reported before minutes of work.
    probe(args.out)
    run(configs.settings_of(configs.read(args.config), "landscape"), args.out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and turn faults and signals into one line and an exit status."""
    return command.run(lambda: work(arguments))


if __name__ == "__main__":
    command.leave(lambda: work(None))
