"""The algebra of Theorem 4 (heavy ball), exactly, with sympy.

One eigenvalue lambda of a constant Hessian: e_{k+1} = (1 + beta - alpha lambda) e_k - beta e_{k-1},
that is the matrix [[1 + beta - alpha lambda, -beta], [1, 0]]. mu <= lambda <= L are the extreme
eigenvalues of w_1 H_1 + w_2 H_2. Every function returns its formula as LaTeX, or raises
IdentityError where a residual does not simplify to zero."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from proofs import identities
from proofs.identities import G1, G2, C, R, prove

ALPHA, LAMBDA, M, ROOT = sp.symbols(r"\alpha \lambda \sqrt\mu \rho", positive=True)
SPAN, SCALE = sp.symbols(r"d s", positive=True)  # sqrt L = sqrt mu + d
LL = M + SPAN
FIRST, SECOND, PRODUCT, SURPLUS, X, ANGLE, BEFORE, NOW = sp.symbols(
    r"\|x\|^2 \|g\|^2 g\cdot\ x r \xi t U_{k-1} U_k", positive=True
)
MU_1, MU_2, ABOVE_1, ABOVE_2, W_1, W_2 = sp.symbols(r"\mu_1 \mu_2 x_1 x_2 w_1 w_2", positive=True)


def printed(root_mu: sp.Expr, root_l: sp.Expr) -> sp.Expr:
    """alpha_k as printed."""
    return 4 / (root_l + root_mu)


def corrected(root_mu: sp.Expr, root_l: sp.Expr) -> sp.Expr:
    """alpha_k with the square that its lemma needs."""
    return 4 / (root_l + root_mu) ** 2


def modulus() -> str:
    """With β = ρ² the eigenvalues are complex, of modulus ρ, exactly where (1-ρ)² <= αλ <= (1+ρ)²."""
    matrix = sp.Matrix([[1 + ROOT**2 - ALPHA * LAMBDA, -(ROOT**2)], [1, 0]])
    discriminant = matrix.trace() ** 2 - 4 * matrix.det()
    return prove(
        r"\det = \rho^2,\quad \mathrm{tr}^2 - 4\det"
        r" = \left[(1-\rho)^2 - \alpha\lambda\right]\left[(1+\rho)^2 - \alpha\lambda\right]",
        matrix.det() - ROOT**2,
        discriminant - ((1 - ROOT) ** 2 - ALPHA * LAMBDA) * ((1 + ROOT) ** 2 - ALPHA * LAMBDA),
    )


def corrected_step() -> str:
    """With the square both terms of β's maximum agree: the rate that the theorem states, for a
    constant Hessian.
    """
    root = 2 / (LL + M)  # sqrt alpha
    return prove(
        r"\alpha = \frac{4}{(\sqrt L + \sqrt\mu)^2}:\quad 1 - \sqrt{\alpha\mu} = \sqrt{\alpha L} - 1"
        r" = \frac{\sqrt L - \sqrt\mu}{\sqrt L + \sqrt\mu}",
        root**2 - corrected(M, LL),
        (1 - root * M) - (LL - M) / (LL + M),
        (root * LL - 1) - (LL - M) / (LL + M),
    )


def printed_step() -> str:
    """Without it αL grows with the losses' scale s²: past αL = 4 even β exceeds 1."""
    return prove(
        r"\alpha = \frac{4}{\sqrt L + \sqrt\mu}:\quad \mu, L \to s^2\mu, s^2 L \ \Rightarrow\ \alpha L \to s\,\alpha L,"
        r"\qquad \beta = (\sqrt{\alpha L} - 1)^2 < 1 \iff 0 < \alpha L < 4",
        printed(SCALE * M, SCALE * LL) * (SCALE * LL) ** 2 - SCALE * printed(M, LL) * LL**2,
        corrected(SCALE * M, SCALE * LL) * (SCALE * LL) ** 2
        - corrected(M, LL) * LL**2,  # the square mends it
        (ROOT - 1) ** 2
        - 1
        - ROOT * (ROOT - 2),  # rho for sqrt(alpha L): beta < 1 iff sqrt(alpha L) < 2
    )


def no_damping() -> str:
    """With μ = 0 the momentum is 1: the corrected method does not damp at all."""
    return prove(
        r"\mu = 0:\quad \alpha L = 4,\ \beta = 1",
        corrected(sp.Integer(0), LL) * LL**2 - 4,
        (2 - 1) ** 2 - sp.Integer(1),
    )


def weights_exceed_1() -> str:
    """Both weights of a pair in conflict exceed 1, so that w_1 L_1 + w_2 L_2 is strongly convex and
    smooth as well.
    """
    w_1, w_2 = 1 - C / R, 1 - C * R
    return prove(
        r"g^{PC} = w_1 g_1 + w_2 g_2,\quad w_1 - 1 = -\tfrac cR > 0,\quad w_2 - 1 = -cR > 0",
        *(identities.algorithm_1() - (w_1 * G1 + w_2 * G2)),
        w_1 - 1 + C / R,
        w_2 - 1 + C * R,
    )


def spectrum() -> str:
    """w_1 H_1 + w_2 H_2 lies between μ_k and L_k, because the weights are positive."""
    h_1, h_2 = (
        MU_1 + ABOVE_1,
        MU_2 + ABOVE_2,
    )  # Rayleigh quotients of the two Hessians in one direction
    return prove(
        r"v^\top (w_1 H_1 + w_2 H_2) v - \mu_k"
        r" = w_1 (v^\top H_1 v - \mu_1) + w_2 (v^\top H_2 v - \mu_2) \ge 0,\quad w_i \ge 1",
        W_1 * h_1 + W_2 * h_2 - (W_1 * MU_1 + W_2 * MU_2) - (W_1 * ABOVE_1 + W_2 * ABOVE_2),
    )


def gradient_step() -> str:
    """Without momentum: the matrix is symmetric, so its norm is this factor, and factors of
    different k multiply.
    """
    low, high = M**2, LL**2
    step = 2 / (high + low)
    return prove(
        r"\beta = 0,\ \alpha = \frac{2}{L + \mu}:\quad"
        r" \max_{\mu \le \lambda \le L} |1 - \alpha\lambda| = 1 - \alpha\mu = \alpha L - 1 = \frac{L - \mu}{L + \mu}",
        (1 - step * low) - (high - low) / (high + low),
        (step * high - 1) - (high - low) / (high + low),
    )


def ratio_of_weights() -> str:
    """L_k / μ_k is a mean of the tasks' condition numbers, so that it stays below the larger one."""
    k_1, k_2 = 1 + ABOVE_1 / MU_1, 1 + ABOVE_2 / MU_2
    share = W_1 * MU_1 / (W_1 * MU_1 + W_2 * MU_2)
    return prove(
        r"\frac{L_k}{\mu_k} = \lambda\,\frac{L_1}{\mu_1} + (1 - \lambda)\,\frac{L_2}{\mu_2},\quad"
        r" \lambda = \frac{w_1\mu_1}{w_1\mu_1 + w_2\mu_2} \in (0, 1)",
        (W_1 * MU_1 * k_1 + W_2 * MU_2 * k_2) / (W_1 * MU_1 + W_2 * MU_2)
        - share * k_1
        - (1 - share) * k_2,
    )


def coercivity() -> str:
    """For the frozen loss w_1 L_1 + w_2 L_2, by co-coercivity of its gradient less μx (Nesterov
    2004, 2.1.12).
    """
    low, high = M**2, LL**2
    difference = SECOND - 2 * low * PRODUCT + low**2 * FIRST  # ||g - mu x||^2
    claim = PRODUCT - low * high / (low + high) * FIRST - SECOND / (low + high)
    return prove(
        r"(g - \mu x)\cdot x \ge \frac{\|g - \mu x\|^2}{L - \mu} \iff"
        r" g \cdot x \ge \frac{\mu L}{\mu + L}\|x\|^2 + \frac{1}{\mu + L}\|g\|^2",
        (PRODUCT - low * FIRST) - difference / (high - low) - (high + low) / (high - low) * claim,
    )


def contraction() -> str:
    """The repaired theorem: a step without momentum contracts the distance to the common minimizer,
    whatever k.
    """
    low, high = M**2, LL**2
    inner = (
        low * high / (low + high) * FIRST + SECOND / (low + high) + SURPLUS
    )  # g . x, r >= 0 by coercivity
    after = FIRST - 2 * ALPHA * inner + ALPHA**2 * SECOND
    factor = 1 - 2 * ALPHA * low * high / (low + high)
    return prove(
        r"\|x - \alpha g\|^2 = \left(1 - \tfrac{2\alpha\mu L}{\mu + L}\right)\|x\|^2"
        r" - \alpha\left(\tfrac{2}{\mu + L} - \alpha\right)\|g\|^2 - 2\alpha r,\quad"
        r" \alpha = \tfrac{2}{\mu + L}: \left(\tfrac{L - \mu}{L + \mu}\right)^2\|x\|^2",
        after
        - (factor * FIRST - ALPHA * (2 / (low + high) - ALPHA) * SECOND - 2 * ALPHA * SURPLUS),
        factor.subs(ALPHA, 2 / (low + high)) - ((high - low) / (high + low)) ** 2,
    )


def powers() -> str:
    """Constant weights: the iterates of one eigenvalue, ξ = (1 + ρ² - αλ) / 2ρ in [-1, 1], U_k
    Chebyshev's.
    """
    after, earlier = 2 * X * NOW - BEFORE, 2 * X * BEFORE - NOW  # U_{k+1} and U_{k-2}
    one, zero = sp.symbols("x_0 x_{-1}")

    def iterate(u: sp.Expr, less: sp.Expr) -> sp.Expr:
        return u * one - ROOT * less * zero  # x_k / rho^k

    return prove(
        r"x_k = \rho^k\left[U_k(\xi)\,x_0 - \rho\,U_{k-1}(\xi)\,x_{-1}\right]"
        r" \Rightarrow |x_k| \le (1 + k(1 + \rho))\,\rho^k |x_0|\ \text{from rest}",
        ROOT * iterate(after, NOW)
        - (2 * ROOT * X * iterate(NOW, BEFORE) - ROOT**2 * iterate(BEFORE, earlier) / ROOT),
        iterate(sp.Integer(1), sp.Integer(0)) - one,  # k = 0
        ROOT * iterate(2 * X, sp.Integer(1)) - (2 * ROOT * X * one - ROOT**2 * zero),  # k = 1
    )


def chebyshev() -> str:
    """So |U_k| grows by at most 1: |U_k(cos t)| <= k + 1."""
    k = sp.Symbol("k", positive=True)
    sine = sp.sin(k * ANGLE + ANGLE).expand(trig=True)
    return prove(
        r"U_k(\cos t) = \frac{\sin((k+1)t)}{\sin t} = \cos t\,U_{k-1}(\cos t) + \cos kt",
        sine / sp.sin(ANGLE)
        - sp.cos(ANGLE) * sp.sin(k * ANGLE) / sp.sin(ANGLE)
        - sp.cos(k * ANGLE),
    )


ALL: tuple[Callable[[], str], ...] = (
    *(
        weights_exceed_1,
        spectrum,
        ratio_of_weights,
        modulus,
        corrected_step,
        printed_step,
        no_damping,
    ),
    *(coercivity, gradient_step, contraction, powers, chebyshev),
)
