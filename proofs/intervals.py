"""Interval arithmetic on arrays: every result contains the exact one.

Each operation rounds outwards by one unit in the last place (`numpy.nextafter`). This covers the
error of IEEE 754 addition, subtraction, multiplication, division and square root, which is at most
half a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def outward(low: Array, high: Array) -> Interval:
    """Return the interval, widened by one unit in the last place on either side."""
    return Interval(np.nextafter(low, -np.inf), np.nextafter(high, np.inf))


@dataclass(frozen=True)
class Interval:
    """Closed intervals [low, high], elementwise."""

    low: Array
    high: Array

    @staticmethod
    def of(value: Any) -> Interval:
        """Return a number as an interval: exact for a whole number or a float, else enclosed."""
        if isinstance(value, Interval):
            return value
        near = np.array(float(value))
        rounded = isinstance(value, Fraction) and Fraction(float(value)) != value
        return outward(near, near) if rounded else Interval(near, near)

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __add__(self, other: Any) -> Interval:
        b = Interval.of(other)
        return outward(self.low + b.low, self.high + b.high)

    def __sub__(self, other: Any) -> Interval:
        return self + (-Interval.of(other))

    def __mul__(self, other: Any) -> Interval:
        b = Interval.of(other)
        # The extremes of a product are at the corners.
        ends = [x * y for x in (self.low, self.high) for y in (b.low, b.high)]
        return outward(np.minimum.reduce(ends), np.maximum.reduce(ends))

    def __truediv__(self, other: Any) -> Interval:
        """Divide by intervals that do not contain 0.

        Raises:
            ZeroDivisionError: A divisor contains 0.
        """
        b = Interval.of(other)
        if np.any((b.low <= 0) & (b.high >= 0)):
            raise ZeroDivisionError("an interval that contains 0 is divided by")
        return self * outward(1 / b.high, 1 / b.low)

    # Addition and multiplication commute; a reflected − or ÷ would be wrong and is left out.
    __radd__ = __add__
    __rmul__ = __mul__

    def square(self) -> Interval:
        """x², which is tighter than x · x for an interval that contains 0."""
        most = np.maximum(-self.low, self.high)
        # The distance of 0 from the interval.
        least = np.maximum(np.maximum(self.low, -self.high), 0.0)
        found = outward(least * least, most * most)
        return Interval(np.maximum(found.low, 0.0), found.high)

    def sqrt(self) -> Interval:
        """√x of intervals that are not negative.

        Raises:
            ArithmeticError: An interval contains a negative number.
        """
        if np.any(self.low < 0):
            raise ArithmeticError("the square root of a negative interval")
        found = outward(np.sqrt(self.low), np.sqrt(self.high))
        return Interval(np.maximum(found.low, 0.0), found.high)

    def negative_part(self) -> Interval:
        """min(0, x)."""
        return Interval(np.minimum(self.low, 0.0), np.minimum(self.high, 0.0))


def dot(u: list[Interval], v: list[Interval]) -> Interval:
    """u·v."""
    total = Interval.of(0)
    for a, b in zip(u, v, strict=True):
        # `a * a` would treat both factors as independent and widen the result.
        total = total + (a.square() if a is b else a * b)
    return total
