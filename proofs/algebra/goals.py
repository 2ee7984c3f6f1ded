"""Inequalities and implications that the proofs use, decided by z3 over the reals.

Two gradients in conflict are described by ‖g₁‖ = r₁, ‖g₂‖ = r₂ and c = cos φ₁₂; the polynomials
below are those of `pair.py`'s identities (‖g‖², ‖g^PC‖², g·g^PC).
"""

from __future__ import annotations

from typing import Any

import z3

from proofs.algebra.implication import Goal

R1, R2, C = z3.Reals("r_1 r_2 c")
T, L, ELL = z3.Reals("t L l")
S1, S2 = R1 * R1, R2 * R2
SQUARE = S1 + S2 + 2 * C * R1 * R2
APART = S1 + S2 - 2 * C * R1 * R2
LENGTH2 = (1 - C * C) * APART
INNER = (1 - C * C) * (S1 + S2)
N = SQUARE - INNER  # numerator of τ = N/D
D = (ELL * SQUARE - L * LENGTH2) / 2
PAIR: dict[str, Any] = {
    "g_1 ≠ 0": R1 > 0,
    "g_2 ≠ 0": R2 > 0,
    "cos φ > −1": C > -1,
    "conflict": C < 0,
}


def descent() -> Goal:
    """Theorem 1's step: the descent lemma's bound is at most −t (1 − c²)‖g‖²/2 while t ≤ 1/L."""
    lemma = -T * INNER + L * T * T * LENGTH2 / 2
    return Goal(
        {"t > 0": T > 0, "c²": C * C < 1, "t ≤ 1/L": T * L <= 1},
        lemma <= -T * (1 - C * C) * SQUARE / 2,
    )


def no_longer_than_twice() -> Goal:
    """‖g^PC‖ ≤ (1 + |c|)‖g‖ in conflict, with |c| = −c."""
    return Goal({"conflict": C <= 0}, LENGTH2 <= (1 - C) * (1 - C) * SQUARE)


def b_implies_a() -> Goal:
    """For conflicting gradients, (b) with ℓ ≤ L implies (a), c ≤ −Φ."""
    return Goal(
        {"conflict": C < 0, "L > 0": L > 0, "ℓ ≤ L": ELL <= L, "(b)": ELL * SQUARE >= L * LENGTH2},
        C * (S1 + S2) <= -2 * R1 * R2,
    )


def c_is_long() -> Goal:
    """(c) with ξ ≥ 0 implies t ≥ 2/ℓ."""
    xi_l = z3.Real("xi_L")
    return Goal({"t > 0": T > 0, "ξL ≥ 0": xi_l >= 0, "(c)": T * (ELL - xi_l) >= 2}, T * ELL >= 2)


def c_is_outside_theorem_1() -> Goal:
    """(c) with ℓ ≤ L implies t ≥ 2/L, twice Theorem 1's largest step."""
    xi_l = z3.Real("xi_L")
    return Goal(
        {"t > 0": T > 0, "ξL ≥ 0": xi_l >= 0, "ℓ ≤ L": ELL <= L, "(c)": T * (ELL - xi_l) >= 2},
        T * L >= 2,
    )


def plain_step_does_not_descend() -> Goal:
    """With the exact remainder, t ≥ 2/ℓ implies L(θ^MT) ≥ L(θ)."""
    change, square = z3.Reals("change square")
    return Goal(
        {
            "‖g‖² ≥ 0": square >= 0,
            "t > 0": T > 0,
            "t ≥ 2/ℓ": T * ELL >= 2,
            "remainder": change >= -T * square + T * T * ELL * square / 2,
        },
        change >= 0,
    )


def theorem2_bound() -> Goal:
    """Under (c), the lower bound of L(θ^MT) − L(θ^PC) is not negative; (a) is not used."""
    bound = -T * SQUARE + T * T * ELL * SQUARE / 2 + T * INNER - T * T * L * LENGTH2 / 2
    return Goal(
        {
            "−1 ≤ c": C >= -1,
            "c ≤ 1": C <= 1,
            "t > 0": T > 0,
            "(c)": T * (ELL * SQUARE - L * LENGTH2) >= 2 * SQUARE,
        },
        bound >= 0,
    )


def theorem3_complete() -> Goal:
    """B(t) ≥ 0 at some t > 0 with D ≠ 0 implies one of the two printed cases (ℓ ≤ L)."""
    below = C * (S1 + S2) <= -2 * R1 * R2  # c ≤ −Φ
    above = C * (S1 + S2) >= -2 * R1 * R2
    # t ≤ τ (case 1) and t ≥ τ (case 2) are both B(t) ≥ 0, by the sign of D.
    first, second = z3.And(above, D <= 0), z3.And(below, D >= 0)
    return Goal(
        {
            "conflict": C < 0,
            "L > 0": L > 0,
            "ℓ ≤ L": ELL <= L,
            "t > 0": T > 0,
            "B(t) ≥ 0": D * T - N >= 0,
        },
        z3.Or(first, second),
    )


def theorem3_sound() -> Goal:
    """Either printed case with D ≠ 0 implies B(t) ≥ 0."""
    # τ is a symbol with τD = N, because z3 decides polynomials better than quotients.
    tau = z3.Real("tau")
    first = z3.And(D < 0, tau >= T)
    second = z3.And(D > 0, tau <= T)
    return Goal({"τ = N/D": tau * D == N, "a case": z3.Or(first, second)}, D * T - N >= 0)


def gap_between_the_cases() -> Goal:
    """c < −Φ with ℓ < ξL makes the bound negative for every t > 0."""
    return Goal({"t > 0": T > 0, "c < −Φ": N > 0, "ℓ < ξL": D < 0}, T * (D * T - N) < 0)


def first_case_is_short() -> Goal:
    """Case 1, −Φ ≤ c < 0 and t ≤ τ, implies t ≤ 2/L."""
    return Goal(
        {"L > 0": L > 0, "ℓ ≤ L": ELL <= L, "D < 0": D < 0, "t ≤ τ": T * D >= N},
        T * L <= 2,
    )  # fmt: skip


def second_case_is_long() -> Goal:
    """Case 2, t ≥ τ with D > 0, implies t ≥ 2/L."""
    return Goal(
        {**PAIR, "L > 0": L > 0, "ℓ ≤ L": ELL <= L, "D > 0": D > 0, "t ≥ τ": T * D >= N}, T * L >= 2
    )


def reciprocal_gap() -> Goal:
    """Theorem B: 1/Δ⁺ − 1/Δ ≥ tσ/(2D²), multiplied by 2D²ΔΔ⁺."""
    gap, after, step, square, radius2 = z3.Reals("gap after t_sigma square D2")
    return Goal(
        {
            "Δ⁺ > 0": after > 0,
            "tσ ≥ 0": step >= 0,
            "descent": after <= gap - step * square / 2,
            "‖g‖² ≥ 0": square >= 0,
            "convexity": gap * gap <= square * radius2,
        },
        2 * radius2 * (gap - after) >= step * gap * after,
    )


def linear_rate() -> Goal:
    """Theorem B: with ‖g‖² ≥ 2μΔ every step multiplies the gap by at most 1 − tμσ."""
    gap, after, step, square, mu = z3.Reals("gap after t_sigma square mu")
    return Goal(
        {
            "tσ ≥ 0": step >= 0,
            "descent": after <= gap - step * square / 2,
            "PL": square >= 2 * mu * gap,
        },
        after <= (1 - step * mu) * gap,
    )


def rearrangement() -> Goal:
    """Theorem C: (1 − a − λ)(f'' − f_0) ≥ 0 for 0 ≤ f'' ≤ L and f_0 = L·[a ≥ 1 − λ]."""
    a, curve, late, share = z3.Reals("a curve late lambda")
    return Goal(
        {"f'' ≥ 0": curve >= 0, "f'' ≤ L": curve <= L, "f_0": late == z3.If(a >= 1 - share, L, 0)},
        (1 - a - share) * (curve - late) >= 0,
    )


def rearrangement_nonconvex() -> Goal:
    """Theorem C without convexity: the same for −L ≤ f'' ≤ L and f_0 = −L before 1 − λ."""
    a, curve, late, share = z3.Reals("a curve late lambda")
    return Goal(
        {
            "f'' ≥ −L": curve >= -L,
            "f'' ≤ L": curve <= L,
            "f_0": late == z3.If(a >= 1 - share, L, -L),
        },
        (1 - a - share) * (curve - late) >= 0,
    )


def repaired_step() -> Goal:
    """Corollary 1: t ≤ g·g^PC/(L‖g^PC‖²) gives a loss change of at most −t g·g^PC/2."""
    inner, length2 = z3.Reals("inner length2")
    return Goal(
        {"t > 0": T > 0, "step": T * L * length2 <= inner},
        -T * inner + L * T * T * length2 / 2 <= -T * inner / 2,
    )


def printed_step_needs_length() -> Goal:
    """Corollary 1 at t ≥ 1/L: the lemma gives no descent where ‖g^PC‖ > 2 cos ‖g‖."""
    cos, size, length = z3.Reals("cos size length")
    return Goal(
        {"L > 0": L > 0, "‖g^PC‖ > 0": length > 0, "t ≥ 1/L": T * L >= 1,
         "long": length > 2 * cos * size},
        -T * cos * size * length + L * T * T * length * length / 2 > 0,
    )  # fmt: skip


def weighted_spectrum() -> Goal:
    """Theorem 4: μ_k ≤ vᵀ(w_1 H_1 + w_2 H_2)v ≤ L_k for positive weights."""
    w_1, w_2, h_1, h_2 = z3.Reals("w_1 w_2 h_1 h_2")
    mu_1, mu_2, top_1, top_2 = z3.Reals("mu_1 mu_2 L_1 L_2")
    # hᵢ = vᵀHᵢv for a unit vector v.
    found = w_1 * h_1 + w_2 * h_2
    return Goal(
        {
            "w_1 > 0": w_1 > 0,
            "w_2 > 0": w_2 > 0,
            "μ_1 ≤ h_1": mu_1 <= h_1,
            "h_1 ≤ L_1": h_1 <= top_1,
            "μ_2 ≤ h_2": mu_2 <= h_2,
            "h_2 ≤ L_2": h_2 <= top_2,
        },
        z3.And(w_1 * mu_1 + w_2 * mu_2 <= found, found <= w_1 * top_1 + w_2 * top_2),
    )


def weighted_condition() -> Goal:
    """Theorem 4: L_k/μ_k is at most the larger of L_1/μ_1 and L_2/μ_2."""
    w_1, w_2, mu_1, mu_2, top_1, top_2, kappa = z3.Reals("w_1 w_2 mu_1 mu_2 L_1 L_2 kappa")
    return Goal(
        {
            "w_1 > 0": w_1 > 0,
            "w_2 > 0": w_2 > 0,
            "L_1 ≤ κμ_1": top_1 <= kappa * mu_1,
            "L_2 ≤ κμ_2": top_2 <= kappa * mu_2,
        },
        w_1 * top_1 + w_2 * top_2 <= kappa * (w_1 * mu_1 + w_2 * mu_2),
    )


def contraction() -> Goal:
    """Theorem 4 without momentum: ‖x − αg‖² ≤ (1 − 2αμL/(μ + L))‖x‖² for α ≤ 2/(μ + L)."""
    alpha, mu, first, second, inner = z3.Reals("alpha mu x2 g2 gx")
    after = first - 2 * alpha * inner + alpha * alpha * second
    return Goal(
        {
            "α > 0": alpha > 0,
            "‖g‖² ≥ 0": second >= 0,
            "α ≤ 2/(μ + L)": alpha * (mu + L) <= 2,
            "coercivity": inner * (mu + L) >= mu * L * first + second,
        },
        (mu + L) * after <= (mu + L - 2 * alpha * mu * L) * first,
    )


def escape_grows() -> Goal:
    """The walk: with weights above 1, x grows by at least 2te."""
    x, after, e, w_1, w_2 = z3.Reals("x after e w_1 w_2")
    return Goal(
        {
            "t > 0": T > 0,
            "e > 0": e > 0,
            "w_1 ≥ 1": w_1 >= 1,
            "w_2 ≥ 1": w_2 >= 1,
            "step": after == x + T * e * (w_1 + w_2),
        },
        after >= x + 2 * T * e,
    )


def escape_shrinks() -> Goal:
    """The walk: ρ = 8te²(u/y)/q is at most 2t(u/y), because q = p² + 4e²."""
    rho, e, q, ratio = z3.Reals("rho e q ratio")
    return Goal(
        {
            "t > 0": T > 0,
            "e ≠ 0": e != 0,
            "u/y > 0": ratio > 0,
            "q ≥ 4e²": q >= 4 * e * e,
            "ρ": rho * q == 8 * T * e * e * ratio,
        },
        rho <= 2 * T * ratio,
    )


def escape_stays_in_conflict() -> Goal:
    """The walk: smaller e and u keep e² + u² < 1, which is conflict."""
    e, u, e_after, u_after = z3.Reals("e u e_after u_after")
    return Goal(
        {
            "conflict": e * e + u * u < 1,
            "e⁺ ≥ 0": e_after >= 0,
            "u⁺ ≥ 0": u_after >= 0,
            "e⁺ ≤ e": e_after <= e,
            "u⁺ ≤ u": u_after <= u,
        },
        e_after * e_after + u_after * u_after < 1,
    )


def rise_beyond_one_over_l() -> Goal:
    """1/L is sharp: the loss rises at (1 + δ)/L if η < 2δ/(1 + δ), η = 1 + c, equal lengths."""
    delta, eta = z3.Reals("delta eta")
    return Goal({"near": eta * (1 + delta) < 2 * delta}, 2 * delta - (1 + delta) * eta > 0)


def printed_momentum() -> Goal:
    """Theorem 4 as printed: β = (√(αL) − 1)² ≥ 1 iff αL ≥ 4."""
    # √(αL) is a symbol, because z3's reals have no square root.
    root = z3.Real("root")
    return Goal({"√(αL) > 0": root > 0}, ((root - 1) * (root - 1) >= 1) == (root >= 2))


def attracts() -> Goal:
    """H_1 = H_2 = (L/2)·1: r + 1/r < 4/(tL) − 2 iff t(L/2)(2 + r + 1/r) < 2."""
    # r + 1/r is one symbol, because the claim depends on it alone.
    both, step = z3.Reals("r_plus_inverse tL")
    return Goal({"tL > 0": step > 0}, (both < 4 / step - 2) == (step / 2 * (2 + both) < 2))


def attraction_is_worst_at_equality() -> Goal:
    """At t = 1/L only r = 1 is left: r + 1/r ≤ 2 implies r = 1."""
    ratio = z3.Real("r")
    return Goal({"r + 1/r ≤ 2": ratio * ratio + 1 <= 2 * ratio}, ratio == 1)


def positive_weights() -> Goal:
    """Projections only add: C_ij ≥ 0 stays true, as −(v·g_j)/‖g_j‖² > 0 in conflict."""
    old, new, product, square = z3.Reals("old new product square")
    return Goal(
        {
            "C_ij ≥ 0": old >= 0,
            "g_j ≠ 0": square > 0,
            "conflict": product < 0,
            "visit": new * square == old * square - product,
        },
        new > 0,
    )
