"""Theorem 4: the heavy ball on one eigenvalue λ of a constant Hessian, and without momentum.

eₖ₊₁ = (1 + β − αλ) eₖ − β eₖ₋₁ has the matrix [[1 + β − αλ, −β], [1, 0]]; μ ≤ λ ≤ L.
"""

from __future__ import annotations

import sympy as sp

from proofs.algebra.formula import Proved, prove

ALPHA, BETA, LAMBDA, MU, TOP, RHO, SCALE = sp.symbols(
    r"\alpha \beta \lambda \mu L \rho s", positive=True
)
PRINTED = 4 / (sp.sqrt(TOP) + sp.sqrt(MU))
CORRECTED = 4 / (sp.sqrt(TOP) + sp.sqrt(MU)) ** 2
DET, TRACE = sp.Symbol(r"\det M"), sp.Symbol(r"(\operatorname{tr} M)")
FIRST, SECOND, PRODUCT, SURPLUS, APART = sp.symbols(
    r"\|x\|^2 \|g\|^2 \left(g\cdot\ x\right) r \|g-\mu\ x\|^2", positive=True
)
MU_1, MU_2, TOP_1, TOP_2, W_1, W_2 = sp.symbols(r"\mu_1 \mu_2 L_1 L_2 w_1 w_2", positive=True)
SHARE = sp.Symbol(r"\nu", positive=True)
X, NOW, BEFORE, ANGLE, K = sp.symbols(r"\zeta U_k U_{k-1} \tau k", positive=True)


def modulus() -> Proved:
    """With β = ρ² the eigenvalues are complex, of modulus ρ, iff (1−ρ)² ≤ αλ ≤ (1+ρ)²."""
    matrix = sp.Matrix([[1 + RHO**2 - ALPHA * LAMBDA, -(RHO**2)], [1, 0]])
    # The discriminant is their product, which is negative exactly between the two bounds.
    left, right = (1 - RHO) ** 2 - ALPHA * LAMBDA, (1 + RHO) ** 2 - ALPHA * LAMBDA
    return prove(
        (DET, RHO**2),
        (TRACE**2 - 4 * DET, left * right),
        cases=[{DET: matrix.det(), TRACE: matrix.trace()}],
    )


def corrected_step() -> Proved:
    """With the square both terms of β's maximum agree: the stated rate, for a constant Hessian."""
    root = 2 / (sp.sqrt(TOP) + sp.sqrt(MU))
    rate = (sp.sqrt(TOP) - sp.sqrt(MU)) / (sp.sqrt(TOP) + sp.sqrt(MU))
    # √α as a symbol keeps sympy from choosing a branch of the root.
    symbol = sp.Symbol(r"(\sqrt\alpha)", positive=True)
    return prove(
        (symbol**2, CORRECTED),
        (1 - symbol * sp.sqrt(MU), rate),
        (symbol * sp.sqrt(TOP) - 1, rate),
        given={symbol: root},
    )


def printed_step() -> Proved:
    """The printed α is not scale-invariant: αL grows with s where the losses grow with s²."""
    size = sp.Symbol(r"\alpha L(s^2\mu,\ s^2 L)", positive=True)
    scaled = PRINTED.subs({MU: SCALE**2 * MU, TOP: SCALE**2 * TOP}, simultaneous=True)
    return prove((size, SCALE * PRINTED * TOP), cases=[{size: scaled * SCALE**2 * TOP}])


def corrected_scale() -> Proved:
    """The corrected α is scale-invariant."""
    size = sp.Symbol(r"\alpha L(s^2\mu,\ s^2 L)", positive=True)
    scaled = CORRECTED.subs({MU: SCALE**2 * MU, TOP: SCALE**2 * TOP}, simultaneous=True)
    return prove((size, CORRECTED * TOP), cases=[{size: scaled * SCALE**2 * TOP}])


def no_damping() -> Proved:
    """As μ → 0 the momentum β tends to 1: the corrected method then does not damp at all."""
    beta = (sp.sqrt(CORRECTED * TOP) - 1) ** 2
    return prove((1 - BETA, sp.sqrt(MU * TOP) * CORRECTED), cases=[{BETA: beta}])


def gradient_step() -> Proved:
    """Without momentum: max |1 − αλ| over [μ, L] at α = 2/(L + μ)."""
    rate = (TOP - MU) / (TOP + MU)
    return prove((1 - ALPHA * MU, rate), (ALPHA * TOP - 1, rate), given={ALPHA: 2 / (TOP + MU)})


def ratio_of_weights() -> Proved:
    """L_k / μ_k is a mean of the tasks' condition numbers."""
    # ν is the share of w₁μ₁ and between 0 and 1, so that this is a convex combination.
    mean = SHARE * TOP_1 / MU_1 + (1 - SHARE) * TOP_2 / MU_2
    weight = W_1 * MU_1 / (W_1 * MU_1 + W_2 * MU_2)
    return prove(
        ((W_1 * TOP_1 + W_2 * TOP_2) / (W_1 * MU_1 + W_2 * MU_2), mean), given={SHARE: weight}
    )


def coercivity() -> Proved:
    """Co-coercivity of g − μx in the form that the contraction uses (Nesterov 2004, 2.1.12)."""
    # ‖g − μx‖² ≤ (L − μ)(g − μx)·x is co-coercivity; the identity turns it into the claim.
    claim = PRODUCT - MU * TOP / (MU + TOP) * FIRST - SECOND / (MU + TOP)
    return prove(
        (PRODUCT - MU * FIRST - APART / (TOP - MU), (TOP + MU) / (TOP - MU) * claim),
        cases=[{APART: SECOND - 2 * MU * PRODUCT + MU**2 * FIRST}],
    )


def contraction() -> Proved:
    """One step without momentum; r ≥ 0 is what coercivity leaves."""
    after = sp.Symbol(r"\|x-\alpha g\|^2", positive=True)
    inner = MU * TOP / (MU + TOP) * FIRST + SECOND / (MU + TOP) + SURPLUS
    factor = 1 - 2 * ALPHA * MU * TOP / (MU + TOP)
    # Not negative for α ≤ 2/(μ + L), and therefore dropped in the bound.
    rest = ALPHA * (2 / (MU + TOP) - ALPHA) * SECOND + 2 * ALPHA * SURPLUS
    return prove(
        (after, factor * FIRST - rest),
        cases=[{after: FIRST - 2 * ALPHA * inner + ALPHA**2 * SECOND}],
    )


def contraction_rate() -> Proved:
    """The factor at the longest step."""
    factor = 1 - 2 * ALPHA * MU * TOP / (MU + TOP)
    return prove((factor, ((TOP - MU) / (TOP + MU)) ** 2), given={ALPHA: 2 / (MU + TOP)})


def powers() -> Proved:
    """The iterates of one eigenvalue by Chebyshev's U_k: x_k = ρ^k (U_k x_0 − ρ U_{k−1} x_{−1})."""
    one, zero = sp.symbols("x_0 x_{-1}")

    def iterate(u: sp.Expr, less: sp.Expr) -> sp.Expr:
        return u * one - RHO * less * zero

    # Chebyshev's recurrence U_{k+1} = 2ζU_k − U_{k−1}, with ζ = cos τ.
    after, earlier = 2 * X * NOW - BEFORE, 2 * X * BEFORE - NOW
    two_steps = 2 * RHO * X * iterate(NOW, BEFORE) - RHO * iterate(BEFORE, earlier)
    return prove(
        (RHO * iterate(after, NOW), two_steps),
        (RHO * iterate(2 * X, sp.Integer(1)), 2 * RHO * X * one - RHO**2 * zero),
    )


def chebyshev() -> Proved:
    """So |U_k| grows by at most 1 per k: |U_k(cos τ)| ≤ k + 1."""
    # U_k(cos τ) = sin((k + 1)τ)/sin τ; the expansion gives the induction step.
    sine = sp.sin(K * ANGLE + ANGLE).expand(trig=True)
    return prove(
        (
            sine / sp.sin(ANGLE),
            sp.cos(ANGLE) * sp.sin(K * ANGLE) / sp.sin(ANGLE) + sp.cos(K * ANGLE),
        )
    )
