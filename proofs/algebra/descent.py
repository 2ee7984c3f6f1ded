"""The walk to infinity, the two-cycle without a Lipschitz gradient, and opposite gradients."""

from __future__ import annotations

import sympy as sp

from proofs.algebra.formula import Proved, T, algorithm_1, prove

E, R = sp.symbols("e r", positive=True)
U, X, Y = sp.symbols("u x y", real=True)
P, Q, W1, W2 = sp.symbols("p q w_1 w_2")
STEP = sp.Symbol("t", positive=True)
ESCAPE = (sp.Matrix([-E, U - 1]), sp.Matrix([-E, U + 1]))
LEFT, RIGHT = sp.symbols("a b", positive=True)  # g₁ = a u, g₂ = −b u


def two_cycle() -> Proved:
    """Without a Lipschitz gradient: on L_1 = L_2 = |x|^(3/2) every step t > 0 has a 2-cycle."""
    x = sp.Symbol("x", positive=True)
    slope = sp.diff(2 * x ** sp.Rational(3, 2), x)  # of L = L₁ + L₂ at x > 0; odd in x
    # The point at which the step t jumps over the minimum to −x.
    start = sp.Rational(9, 4) * STEP**2
    return prove((x - STEP * slope, -x), given={x: start})


def escape_update() -> Proved:
    """The walk's update: its first component moves x up, its second moves y towards 0."""
    one, two = ESCAPE
    update = algorithm_1(one, two)
    product = one.dot(two)
    meaning = {
        Q: P**2 + 4 * E**2,
        P: E**2 + U**2 - 1,
        W1: 1 - product / one.dot(one),
        W2: 1 - product / two.dot(two),
    }
    components = sp.symbols("g^{PC}_x g^{PC}_y")
    length = sp.Symbol(r"\|g^{PC}\|^2")
    meaning |= dict(zip(components, update, strict=True)) | {length: update.dot(update)}
    return prove(
        (components[0], -E * (W1 + W2)),
        (components[1], 8 * E**2 * U / Q),
        (length, 16 * E**2 / Q),
        cases=[meaning],
    )


def escape_angle() -> Proved:
    """p = g_1 · g_2 and q = ‖g_1‖²‖g_2‖² on the walk."""
    one, two = ESCAPE
    return prove(
        (P, E**2 + U**2 - 1),
        (Q, P**2 + 4 * E**2),
        cases=[{Q: one.dot(one) * two.dot(two), P: one.dot(two)}],
    )


def escape_slopes() -> Proved:
    """Outside the unit disk h = r − x is convex, with these derivatives."""
    height = sp.sqrt(X**2 + Y**2) - X
    det, trace = sp.Symbol(r"\det\nabla^2h"), sp.Symbol(r"\operatorname{tr}\nabla^2h")
    h_x, h_y = sp.symbols("h_x h_y")
    meaning = {
        h_x: sp.diff(height, X),
        h_y: sp.diff(height, Y),
        det: sp.diff(height, X, 2) * sp.diff(height, Y, 2) - sp.diff(height, X, Y) ** 2,
        trace: sp.diff(height, X, 2) + sp.diff(height, Y, 2),
        R: sp.sqrt(X**2 + Y**2),
    }
    return prove(
        (h_x, X / R - 1), (h_y, Y / R), (det, sp.Integer(0)), (trace, 1 / R), cases=[meaning]
    )


def opposite_derivative() -> Proved:
    """At g_1 = a u, g_2 = −b u the update's derivative is P(w_1 H_1 + w_2 H_2), P = 1 − u uᵀ.

    In the plane of u and one direction across it; h_i are the images H_i x, ε the distance."""
    along_1, across_1, along_2, across_2 = sp.symbols(r"h_1^u h_1^\perp h_2^u h_2^\perp", real=True)
    small = sp.Symbol(r"\varepsilon")
    unit = sp.Matrix([1, 0])
    update = algorithm_1(
        LEFT * unit + small * sp.Matrix([along_1, across_1]),
        -RIGHT * unit + small * sp.Matrix([along_2, across_2]),
    )
    slope = [sp.diff(entry, small).subs(small, 0) for entry in update]
    along, across = sp.symbols(r"(Dg^{PC})_u (Dg^{PC})_\perp")
    return prove(
        (along, sp.Integer(0)),
        (across, (1 + RIGHT / LEFT) * across_1 + (1 + LEFT / RIGHT) * across_2),
        cases=[{along: slope[0], across: slope[1]}],
    )


def attraction_limit() -> Proved:
    """H_1 = H_2 = (L/2)·1: t λ_max − 2 in terms of r = a / b; negative where the point attracts."""
    ratio, top, largest = sp.symbols(r"r L \lambda_{\max}", positive=True)
    return prove(
        (T * largest - 2, T * top / 2 * (ratio + 1 / ratio - (4 / (T * top) - 2))),
        given={largest: top / 2 * ((1 + 1 / ratio) + (1 + ratio))},
    )


def noise_drift() -> Proved:
    """The part of g^PC along u to second order in the gradients' noise y_i across u.

    The noise along u is part of a and b. With independent y_i of variance η_i² per coordinate the
    mean is (d − 1)(a η_2²/b² − b η_1²/a²)."""
    y_1, y_2, small = sp.symbols(r"y_1 y_2 \varepsilon", real=True)
    update = algorithm_1(sp.Matrix([LEFT, small * y_1]), sp.Matrix([-RIGHT, small * y_2]))
    second = sp.diff(sp.cancel(update[0]), small, small).subs(small, 0) / 2
    along = sp.Symbol(r"u\cdot g^{PC}")
    drift = LEFT * y_2**2 / RIGHT**2 - RIGHT * y_1**2 / LEFT**2
    mixed = (1 / RIGHT - 1 / LEFT) * y_1 * y_2
    return prove((along, drift + mixed), cases=[{along: second}])


def rest_point() -> Proved:
    """The mean drift vanishes at a/b = (η_1/η_2)^(2/3)."""
    noise_1, noise_2 = sp.symbols(r"\eta_1 \eta_2", positive=True)
    drift = LEFT * noise_2**2 / RIGHT**2 - RIGHT * noise_1**2 / LEFT**2
    rest = RIGHT * (noise_1 / noise_2) ** sp.Rational(2, 3)
    return prove((drift, sp.Integer(0)), given={LEFT: rest})
