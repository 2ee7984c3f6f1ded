"""Theorem 4, corrected, is false in conflict: an interval proof of a growing three-cycle.

    Lᵢ = θᵀHᵢθ/2,   H₁ = diag(900, 1),   H₂ = [[58, 190], [190, 640]],

μᵢ and Lᵢ the eigenvalues of Hᵢ, αₖ = 4/(√Lₖ + √μₖ)² and βₖ as printed. There are θ₀ = (1, y),
θ₁ = u and a factor s < −1 with θ₃ = s θ₀ and θ₄ = s θ₁. The method is homogeneous, so that
θₖ₊₃ = s θₖ for ever. The gradients are in conflict at every iterate.

**Krawczyk's test.** F(y, u₁, u₂, s) = (θ₃ − s θ₀, θ₄ − s θ₁), X a box about an approximate
zero m, C an approximate inverse of F'(m):

    K = m − C F(m) + (1 − C F'(X))(X − m) ⊂ interior of X

proves that X contains exactly one zero of F (Krawczyk 1969; Moore 1977). F' comes from forward
differentiation, in interval arithmetic of 50 digits (`mpmath.iv`). As a second route the core runs
the same iterates from m in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np
from mpmath import iv

from proofs.momentum.theorem4_examples import quadratics, through_the_core
from proofs.tally import BrokenError

DIGITS = 50
RADIUS = "1e-20"  # radius of the box
NEAR = ("-0.536362", "0.092881", "-0.233580", "-1.103804")  # y, u₁, u₂, s to six digits
ONE, TWO = (900, 0, 1), (58, 190, 640)  # [[a, b], [b, c]] as (a, b, c)
Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Dual:
    """A number with its derivatives with respect to the four unknowns."""

    value: Any
    slopes: np.ndarray  # of numbers of mpmath; the left factor, as mpmath multiplies no arrays

    def __add__(self, other: Dual) -> Dual:
        return Dual(self.value + other.value, self.slopes + other.slopes)

    def __sub__(self, other: Dual) -> Dual:
        return Dual(self.value - other.value, self.slopes - other.slopes)

    def __mul__(self, other: Dual) -> Dual:
        slopes = self.slopes * other.value + other.slopes * self.value
        return Dual(self.value * other.value, slopes)

    def __truediv__(self, other: Dual) -> Dual:
        value = self.value / other.value
        return Dual(value, (self.slopes - other.slopes * value) / other.value)

    def times(self, factor: Any) -> Dual:
        """Multiply by a constant."""
        return Dual(self.value * factor, self.slopes * factor)

    def sqrt(self, context: Any) -> Dual:
        """Take the square root."""
        root = context.sqrt(self.value)
        return Dual(root, self.slopes / (2 * root))


@dataclass(frozen=True)
class Cycle:
    """The results of the interval proof and of the second route."""

    zero: tuple[str, ...]  # y, u₁, u₂, s
    radius: str
    contained: bool  # K is in the interior of X
    products: tuple[str, ...]  # enclosures of g₁ · g₂ at θ₁, θ₂, θ₃
    in_conflict: bool
    strongly_convex: bool  # the enclosures of μ₁ and μ₂ are positive
    growth: str  # enclosure of s
    largest_error_of_the_core: float

    @property
    def refutes(self) -> bool:
        """Whether everything holds that the refutation needs."""
        return self.contained and self.in_conflict


def spectrum(context: Any) -> tuple[Pair, Pair]:
    """(μ₁, μ₂), (L₁, L₂)."""
    root = context.sqrt(context.mpf(291**2 + 190**2))
    return (context.mpf(1), 349 - root), (context.mpf(900), 349 + root)


def image(h: tuple[int, int, int], theta: tuple[Dual, Dual]) -> tuple[Dual, Dual]:
    """H θ."""
    a, b, c = h
    x, y = theta
    return x.times(a) + y.times(b), x.times(b) + y.times(c)


def move(
    now: tuple[Dual, Dual], before: tuple[Dual, Dual], context: Any
) -> tuple[tuple[Dual, Dual], Dual]:
    """Return θₖ₊₁, for iterates in conflict, and g₁·g₂."""
    mu, top = spectrum(context)
    first, second = image(ONE, now), image(TWO, now)
    product = first[0] * second[0] + first[1] * second[1]
    weights = []
    for g in (first, second):
        square = g[0] * g[0] + g[1] * g[1]
        weights.append((square - product) / square)
    low = (weights[0].times(mu[0]) + weights[1].times(mu[1])).sqrt(context)
    high = (weights[0].times(top[0]) + weights[1].times(top[1])).sqrt(context)
    total, rate = high + low, (high - low) / (high + low)
    after = []
    for k in range(2):
        pull = weights[0] * first[k] + weights[1] * second[k]
        # αₖ = 4/(√Lₖ + √μₖ)², and βₖ is the square of `rate`.
        step = pull.times(4) / (total * total)
        after.append(now[k] - step + rate * rate * (now[k] - before[k]))
    return (after[0], after[1]), product


def residual(point: list[Any], context: Any) -> tuple[list[Dual], list[Dual]]:
    """Return F and the products g₁·g₂ at θ₁, θ₂, θ₃."""
    zero, one = context.mpf(0), context.mpf(1)
    units = np.array([[one if j == k else zero for j in range(4)] for k in range(4)], dtype=object)
    y, u_1, u_2, s = map(Dual, point, units)
    start = Dual(one, units[0] * 0), y
    path, products = [start, (u_1, u_2)], []
    for _ in range(3):
        after, product = move(path[-1], path[-2], context)
        path.append(after)
        products.append(product)
    ends = [path[3][k] - s * path[0][k] for k in range(2)]
    return ends + [path[4][k] - s * path[1][k] for k in range(2)], products


def newton() -> Any:
    """Return an approximate zero, and an approximate inverse of the derivative there."""
    point = mp.matrix([mp.mpf(x) for x in NEAR])
    for _ in range(8):
        found, _ = residual(list(point), mp)
        derivative = mp.matrix([list(f.slopes) for f in found])
        inverse = derivative**-1
        point = point - inverse * mp.matrix([f.value for f in found])
    return point, inverse


def krawczyk(point: Any, inverse: Any) -> tuple[bool, list[Any], list[Dual]]:
    """Return whether K is inside X, X itself, and the products on X."""
    middle = [iv.mpf(x) for x in point]
    radius = iv.mpf([f"-{RADIUS}", RADIUS])
    box = [m + radius for m in middle]
    at_middle, _ = residual(middle, iv)
    on_box, products = residual(box, iv)
    inside = True
    for i in range(4):
        row = [iv.mpf(inverse[i, k]) for k in range(4)]
        # C need not be exact, because the test holds for any matrix.
        value = middle[i] - sum(c * f.value for c, f in zip(row, at_middle, strict=True))
        for j in range(4):
            slope = sum(c * f.slopes[j] for c, f in zip(row, on_box, strict=True))
            value += (int(i == j) - slope) * radius
        inside &= bool(value.a > box[i].a and value.b < box[i].b)
    return inside, box, products


def enclosure(interval: Any, digits: int) -> str:
    """Format an interval of mpmath."""
    low, high = (mp.nstr(mp.mpf(end), digits) for end in (interval.a, interval.b))
    return f"[{low}, {high}]"


def prove() -> Cycle:
    """Run the interval proof.

    Raises:
        BrokenError: The core's float64 disagrees with it.
    """
    before = iv.dps
    iv.dps = DIGITS
    try:
        with mp.workdps(DIGITS):
            point, inverse = newton()
            inside, box, products = krawczyk(point, inverse)
            zero = tuple(mp.nstr(x, 25) for x in point)
            cycle = Cycle(
                zero,
                RADIUS,
                inside,
                tuple(enclosure(p.value, 12) for p in products),
                all(bool(p.value.b < 0) for p in products) and bool(box[3].b < -1),
                all(bool(mu.a > 0) for mu in spectrum(iv)[0]),
                enclosure(box[3], 20),
                second_route(point),
            )
    finally:
        iv.dps = before
    if cycle.largest_error_of_the_core > 1e-6:
        raise BrokenError(f"theorem4: the core leaves the three-cycle: {cycle}")
    return cycle


def second_route(point: Any) -> float:
    """Return the distance of the core's θ₃ and θ₄ from s θ₀ and s θ₁, relative to s."""
    y, u_1, u_2, s = (float(x) for x in point)
    mu, top = spectrum(mp)
    path = through_the_core(
        quadratics(ONE, TWO), [float(x) for x in mu], [float(x) for x in top],
        (u_1, u_2), (1.0, y), 3, "corrected",
    )  # fmt: skip
    wanted = {2: (s, s * y), 3: (s * u_1, s * u_2)}
    return max(
        abs(a - b) / abs(s) for k, v in wanted.items() for a, b in zip(path[k], v, strict=True)
    )
