"""Losses of multi-task SAC on inputs `[T, B, ...]`.

The networks have N members; see `multitask.rl.sac.networks`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from multitask.rl.replay import Batch
from multitask.rl.sac.networks import Tap, mlp

LOG_STD_RANGE = (-20.0, 2.0)


def with_task(observation: Tensor, codes: Tensor) -> Tensor:
    """Appends each task's code to its observations: `[T, B, O]` -> `[T, B, O + C]`.

    The codes `[T, C]` are one-hots or goals.
    """
    tasks, batch = observation.shape[:2]
    return torch.cat(
        [observation, codes.unsqueeze(1).expand(tasks, batch, -1).to(observation)], dim=-1
    )


class Actions(NamedTuple):
    """Actions drawn from a squashed Gaussian, and what their gradient needs.

    Attributes:
        action: tanh(μ + σ ε) `[..., A]`.
        log_density: log π `[...]`.
        deviation: σ ε `[..., A]`.
        inside: `[..., A]`, 1 where log σ is inside LOG_STD_RANGE, else 0.
    """

    action: Tensor
    log_density: Tensor
    deviation: Tensor
    inside: Tensor


def draw_actions(output: Tensor, noise: Tensor) -> Actions:
    """Draws actions from an actor's output `[..., 2A]` by the noise ε `[..., A]`."""
    mean, raw_log_std = output.chunk(2, dim=-1)
    # Clipped as in choice 9; outside the range its gradient is zero.
    log_std = raw_log_std.clamp(*LOG_STD_RANGE)
    deviation = log_std.exp() * noise
    raw = mean + deviation
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 − tanh²) in a form that does not overflow or cancel for large |raw|
    log_tanh_slope = 2 * (math.log(2) - raw - torch.nn.functional.softplus(-2 * raw))
    log_density = (gaussian - log_tanh_slope).sum(-1)
    return Actions(raw.tanh(), log_density, deviation, (raw_log_std == log_std).to(raw.dtype))


def sample_actions(
    actor: Sequence[Tensor], inputs: Tensor, noise: Tensor, taps: list[Tap] | None = None
) -> tuple[Tensor, Tensor]:
    """Samples actions `[T, B, A]` and their log-densities `[T, B]`."""
    drawn = draw_actions(mlp(actor, inputs, 1, taps)[0], noise)
    return drawn.action, drawn.log_density


def evaluate(
    critics: Sequence[Tensor], inputs: Tensor, actions: Tensor, taps: list[Tap] | None = None
) -> Tensor:
    """Evaluates both critics at `[T, B, ...]`: Q `[2, T, B]`."""
    return mlp(critics, torch.cat([inputs, actions], dim=-1), 2, taps).squeeze(-1)


@torch.no_grad()
def td_target(
    batch: Batch,
    codes: Tensor,
    actor: Sequence[Tensor],
    targets: Sequence[Tensor],
    alpha: Tensor,
    noise: Tensor,
    *,
    discount: float,
) -> Tensor:
    """Returns the critics' target `[T, B]`.

    r + γ (1 − terminated) [min_n Q̄_n(s', a') − α_t log π(a'|s')],   a' ~ π(·|s')
    """
    inputs = with_task(batch.next_observation, codes)
    actions, log_density = sample_actions(actor, inputs, noise)
    # The smaller of two critics counters the overestimation of values.
    value = evaluate(targets, inputs, actions).amin(0) - alpha.unsqueeze(-1) * log_density
    # A time limit is no termination, so the value of the final observation counts (choice 8).
    return batch.reward + discount * (1 - batch.terminated) * value


def critic_losses(
    critics: Sequence[Tensor],
    batch: Batch,
    codes: Tensor,
    target: Tensor,
    taps: list[Tap] | None = None,
) -> Tensor:
    """Returns ½ mean_B (Q_n − target)² per critic and task, `[2, T]`."""
    q = evaluate(critics, with_task(batch.observation, codes), batch.action, taps)
    return 0.5 * (q - target).square().mean(-1)


def actor_losses(
    actor: Sequence[Tensor],
    critics: Sequence[Tensor],
    batch: Batch,
    codes: Tensor,
    alpha: Tensor,
    noise: Tensor,
    taps: list[Tap] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns the actor's losses `[1, T]` and log π `[T, B]`.

    mean_B [α_t log π(a|s) − min_n Q_n(s, a)]   per task
    """
    inputs = with_task(batch.observation, codes)
    actions, log_density = sample_actions(actor, inputs, noise, taps)
    # The critics' parameters require no gradient: only the actions carry it.
    value = evaluate(critics, inputs, actions).amin(0)
    return (alpha.unsqueeze(-1) * log_density - value).mean(-1).unsqueeze(0), log_density.detach()
