"""A ray caster for boxes, balls and the inside of a room, with exact depth and normals.

Frames: world x right, y ahead, z up, in meters; camera (right, ahead, up). A ray of the camera has
length 1 *along the camera's axis*, so the distance to a hit is the depth. All values are float64
and are rounded at the end, so that a scene is the same on machines whose sine differs in the last
bit.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FAR = np.inf
# Hits that are nearer to a ray's origin than this, or behind it, do not count.
EDGE = 1e-9


@dataclass(frozen=True)
class Solid:
    """A box turned by `yaw` about the vertical, or the ball inside it if `round`.

    The color is in [0, 1].
    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    label: int
    color: Array
    yaw: float = 0.0
    round: bool = False
    # Stripes per meter; 0: plain.
    stripes: float = 0.0
    # Seen from within: the room.
    hollow: bool = False


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at `position`.

    Yaw turns to the left, pitch up; `focal` is in widths of the image.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    focal: float

    def turn(self) -> Array:
        """Returns the rotation [3, 3] from the camera's frame to the world's."""
        return _about_z(self.yaw) @ _about_x(self.pitch)

    def rays(self, height: int, width: int) -> Array:
        """Returns directions [H W, 3] through the centers of the pixels, in the camera's frame."""
        right = (np.arange(width) + 0.5 - width / 2) / (self.focal * width)
        up = (height / 2 - np.arange(height) - 0.5) / (self.focal * width)
        grid = np.stack(np.broadcast_arrays(right[None, :], 1.0, up[:, None]), axis=-1)
        return grid.reshape(-1, 3)


@dataclass
class Hits:
    """The first surface that each ray meets.

    Attributes:
        depth: [P], infinite where there is nothing.
        normal: [P, 3], in the world.
        index: Number of the solid [P]; -1 where there is nothing.
        points: [P, 3], in the world.
    """

    depth: Array
    normal: Array
    index: NDArray[np.intp]
    points: Array = field(default_factory=lambda: np.empty((0, 3)))


def cast(solids: list[Solid], origin: Array, rays: Array) -> Hits:
    """Finds the nearest surface along each ray [P, 3]; its normal faces the origin."""
    count = len(rays)
    hits = Hits(np.full(count, FAR), np.zeros((count, 3)), np.full(count, -1))
    squares = np.einsum("pi,pi->p", rays, rays)
    for index, solid in enumerate(solids):
        rows = _candidates(solid, origin, rays, squares)
        turn = _about_z(solid.yaw)
        # In the solid's own frame its sides are parallel to the axes.
        start, along = (origin - solid.center) @ turn, rays[rows] @ turn
        meet = _ball if solid.round else _inside if solid.hollow else _box
        # Lengths along a ray do not change with the turn, so depths compare between solids.
        depth, normal = meet(start, along, np.asarray(solid.size) / 2)
        nearer = depth < hits.depth[rows]
        rows = rows[nearer]
        hits.depth[rows] = depth[nearer]
        hits.normal[rows] = normal[nearer] @ turn.T
        hits.index[rows] = index
    reached = np.where(np.isfinite(hits.depth), hits.depth, 0.0)
    hits.points = origin + rays * reached[:, None]
    return hits


def _candidates(solid: Solid, origin: Array, rays: Array, squares: Array) -> NDArray[np.intp]:
    """Returns the rays that pass through the sphere around a solid, by a quick test.

    From within the sphere, all rays do.
    """
    toward = np.asarray(solid.center) - origin
    along = rays @ toward
    # Squared distance less squared radius; negative within the sphere.
    spare = toward @ toward - np.dot(solid.size, solid.size) / 4
    return np.flatnonzero((along * along >= spare * squares) & ((along > 0) | (spare < 0)))


def shade(solids: list[Solid], hits: Hits, light: Array, background: Array, sight: float) -> Array:
    """Colors points [P, 3]: ambient and diffuse light, stripes across the surface, and haze.

    The light is a point. exp(-depth / `sight`) of a surface's color is left by the haze; the rest
    is `background`, which is also the color where there is nothing.
    """
    colors = np.array([solid.color for solid in solids])[hits.index]
    stripes = np.array([solid.stripes for solid in solids])[hits.index]
    toward = light - hits.points
    cosine = np.einsum("pi,pi->p", toward, hits.normal) / np.linalg.norm(toward, axis=1)
    wave = np.floor(stripes * (hits.points @ np.array([1.0, 0.7, 1.3]))) % 2
    # Ambient light, diffuse light, and darker stripes.
    colors = colors * (0.55 + 0.45 * np.clip(cosine, 0, 1) - 0.18 * wave * (stripes > 0))[:, None]
    left = np.exp(-hits.depth / sight)[:, None]
    return left * colors + (1 - left) * background


def _box(start: Array, along: Array, half: Array) -> tuple[Array, Array]:
    """Returns depth and normal at the entry into a box at the origin of its own frame."""
    near, _, axis, _ = _slabs(start, along, half)
    return near, _faces(along, axis)


def _inside(start: Array, along: Array, half: Array) -> tuple[Array, Array]:
    """Returns depth and normal of the wall that a ray from within meets."""
    _, far, _, axis = _slabs(start, along, half)
    return far, _faces(along, axis)


def _slabs(
    start: Array, along: Array, half: Array
) -> tuple[Array, Array, NDArray[np.intp], NDArray[np.intp]]:
    """Returns depths of entry (inf: missed, or behind) and of exit, with their axes."""
    # A ray parallel to a side divides by zero; the infinities compare as they should.
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (-half - start) / along, (half - start) / along
    entry, leave = np.minimum(one, two), np.maximum(one, two)
    first, last = entry.argmax(axis=1), leave.argmin(axis=1)
    near, far = entry.max(axis=1), leave.min(axis=1)
    return np.where((near <= far) & (near > EDGE), near, FAR), far, first, last


def _faces(along: Array, axis: NDArray[np.intp]) -> Array:
    """Returns unit normals along `axis`, against the ray."""
    rows = np.arange(len(axis))
    normal = np.zeros((len(axis), 3))
    normal[rows, axis] = -np.sign(along[rows, axis])
    return normal


def _ball(start: Array, along: Array, half: Array) -> tuple[Array, Array]:
    """Returns depth and normal at the entry into the ellipsoid with half axes `half`."""
    # Scaled by the half axes, the ellipsoid is the unit sphere.
    s, d = start / half, along / half
    a, b, c = np.einsum("pi,pi->p", d, d), d @ s, s @ s - 1
    root = b * b - a * c
    with np.errstate(invalid="ignore"):
        near = (-b - np.sqrt(root)) / a
    near = np.where((root > 0) & (near > EDGE), near, FAR)
    reached = np.where(np.isfinite(near), near, 0.0)
    normal = (s + d * reached[:, None]) / half
    return near, normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _about_z(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _about_x(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
