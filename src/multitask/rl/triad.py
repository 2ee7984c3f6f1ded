"""The tragic triad along training: curvature, conflict and magnitudes of task gradients.

See Section 5.3 and Figure 4.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pcgrad import condition_a, cosine, curvature_bounding_measure, magnitude_similarity


def curvature(
    losses: Callable[[list[Tensor]], Tensor], theta: Sequence[Tensor], theta_next: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Measures the curvature along the actual update d = θ' − θ in two forms, in float64.

        remainder   = 2 [L(θ') − L(θ) − ∇L(θ)ᵀ d] = 2 ∫₀¹ (1 − a) dᵀ∇²L(θ + a d) d da
        definition3 = dᵀ [∇L(θ') − ∇L(θ)]         =   ∫₀¹         dᵀ∇²L(θ + a d) d da

    The first is Section 5.3's estimator. The second is Definition 3's unweighted integral with the
    update d instead of ∇L(θ); for a gradient step of size t they differ by the factor t². At kinks
    of a ReLU network the left-hand sides stay correct.

    Args:
        losses: Maps parameters `[N, ...]` or `[N·T, ...]` to L of each of N members `[N]`, each
            computed from its own rows alone.
        theta: Parameters before the update, in any dtype.
        theta_next: Parameters after it.

    Returns:
        remainder `[N]` and definition3 `[N]`, in float64.
    """
    before = [p.detach().double().requires_grad_() for p in theta]
    after = [p.detach().double().requires_grad_() for p in theta_next]
    loss, loss_next = losses(before), losses(after)
    # Each member's loss reaches its own rows alone, so the sum separates.
    gradient = torch.autograd.grad(loss.sum(), before)
    gradient_next = torch.autograd.grad(loss_next.sum(), after)
    # In float64 from the start: both forms are small differences.
    steps = [(q - p).detach() for p, q in zip(before, after, strict=True)]

    def along(gradients: Sequence[Tensor]) -> Tensor:
        members = len(loss)
        return torch.stack(
            [(g * d).reshape(members, -1).sum(1) for g, d in zip(gradients, steps, strict=True)]
        ).sum(0)

    slope, slope_next = along(gradient), along(gradient_next)
    return (2 * (loss_next - loss - slope)).detach(), slope_next - slope


def conflict_statistics(gramians: Tensor, weights: Tensor) -> dict[str, float]:
    """Counts what Figure 4's middle panel shows, over all updates of one collection and network.

    Args:
        gramians: Gramians `[U, T, T]` of the task gradients, float64.
        weights: Weights `[U, T]` of the updates.

    Returns:
        Counts `pairs`, `conflicts`, `undefined`; `cosine_positive_share` of the defined pairs;
        among conflicts `condition_a_share` (cos ≤ −Φ), `xi_le_1_share` (ξ ≤ 1), `xi_median`; means
        `cosine`, `magnitude_similarity` and `length_ratio` (‖update‖ / ‖plain sum‖). Undefined
        values are left out.

    Raises:
        RuntimeError: A pair has ξ ≤ 1 without condition (a).
    """
    gramians = gramians.double().cpu()
    tasks = gramians.shape[-1]
    # Every pair once: the measures are symmetric.
    above = torch.triu(torch.ones(tasks, tasks, dtype=torch.bool), diagonal=1)
    cos = cosine(gramians)[:, above]
    defined = ~cos.isnan()
    # The sign of the product, not of the cosine: it is defined for every pair.
    negative = gramians[:, above] < 0
    xi = curvature_bounding_measure(gramians)
    a = settle_ties(gramians, xi_le_1=xi <= 1, a=condition_a(gramians))[:, above][negative]
    xi = xi[:, above][negative]
    found: dict[str, float] = {
        "pairs": cos.numel(),
        "undefined": int((~defined).sum()),
        "conflicts": int(negative.sum()),
    }
    plain = gramians.sum((-1, -2))
    update = torch.einsum("ut,uts,us->u", weights.double().cpu(), gramians, weights.double().cpu())
    # Opposite gradients have a sum of length 0, whose ratio is undefined.
    if (plain > 0).any():
        found["length_ratio"] = (update.clamp_min(0) / plain)[plain > 0].sqrt().mean().item()
    if defined.any():
        found["cosine_positive_share"] = (cos[defined] > 0).double().mean().item()
        found["cosine"] = cos[defined].mean().item()
        found["magnitude_similarity"] = (
            magnitude_similarity(gramians)[:, above][defined].mean().item()
        )
    if negative.any():
        found["condition_a_share"] = a.double().mean().item()
        found["xi_le_1_share"] = (xi <= 1).double().mean().item()
        found["xi_median"] = xi.median().item()
    return found


def settle_ties(gramians: Tensor, *, xi_le_1: Tensor, a: Tensor) -> Tensor:
    """Returns condition (a) of Theorem 2 `[..., T, T]`, with ties by rounding settled.

    ξ ≤ 1 implies (a) for conflicting gradients. With s = G₁₁ + G₂₂, p = G₁₁ G₂₂ and c = G₁₂ < 0:

        ξ ≤ 1  ⇔  c s ≤ −2p − 2 (p − c²)
        (a)    ⇔  c s ≤ −2p

    So ξ ≤ 1 without (a) is possible only by rounding: near equality, or where c² exceeds p. Such a
    tie counts as (a).

    Raises:
        RuntimeError: A difference exceeds rounding, so the measures contradict each other.
    """
    square = gramians.diagonal(dim1=-2, dim2=-1)
    p, s = square.unsqueeze(-1) * square.unsqueeze(-2), square.unsqueeze(-1) + square.unsqueeze(-2)
    # By Cauchy-Schwarz c² ≤ p; what exceeds it is rounding of the Gramian.
    rounding = 2 * (gramians**2 - p).clamp_min(0) + 1e-12 * p
    alone = (gramians < 0) & xi_le_1 & ~a
    broken = alone & (gramians * s + 2 * p > rounding)
    if broken.any():
        raise RuntimeError(
            f"{int(broken.sum())} conflicting pairs have ξ ≤ 1 but not cos ≤ −Φ, "
            "which is impossible: the measures in pcgrad contradict each other"
        )
    return a | alone
