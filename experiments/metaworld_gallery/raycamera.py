"""Renders a MuJoCo model without OpenGL, with MuJoCo's ray caster and NumPy.

The ray caster finds the geom of each pixel, and a second cast from the lamp finds the shadows.
Reflections, transparency and sites are not drawn. A textured material has the mean color of its
texture.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np

# Geom groups that are drawn. By MuJoCo's convention, groups 3 to 5 hold collision shapes.
SHOWN = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)
FAR = 10.0  # m; beyond every object of a table-top scene
BACKGROUND = (1.0, 1.0, 1.0)
AMBIENT, DIFFUSE = 0.55, 0.8  # Lambert: color · (ambient + diffuse · cosine), cut off at white
SHADOW = 0.3  # factor of the cosine in a shadow
GAP = 2e-3  # a lamp's ray has reached a point if it ends within this relative distance
HIDDEN = 0.4  # opacity of a marker behind a geom
# MuJoCo draws a geom of this default color in its material's color.
DEFAULT = np.array([0.5, 0.5, 0.5, 1.0], dtype=np.float32)

Vector = Sequence[float] | np.ndarray


class View(NamedTuple):
    """A pinhole camera with the world's z axis up. It must not look straight up or down.

    Attributes:
        eye: Position in m.
        target: Point in the center of the picture, in m.
        degrees: Vertical field of view.
    """

    eye: Vector
    target: Vector
    degrees: float


class Marker(NamedTuple):
    """A ball that is not part of the model, for example a goal. It shines through geoms."""

    center: Vector  # m
    radius: float  # m
    color: tuple[float, float, float]


def directions(view: View, width: int, height: int) -> np.ndarray:
    """Rays [height, width, 3] through the centers of the pixels.

    They are 1 m long along the optical axis, so a distance in lengths of a ray is a depth in m.
    """
    forward = np.subtract(view.target, view.eye)
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    half = np.tan(np.radians(view.degrees) / 2)
    y = (1 - (2 * np.arange(height) + 1) / height) * half
    x = ((2 * np.arange(width) + 1) / width - 1) * half * width / height
    return forward + x[None, :, None] * right + y[:, None, None] * up


def cast(model: Any, data: Any, start: Vector, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cast rays [..., 3] from one point.

    Geoms of alpha 0 and of the groups that SHOWN excludes are not hit.

    Returns:
        The first geom [...] of each ray (-1 for none) and its distance [...] in lengths of the ray.
    """
    count = rays.size // 3
    geom, distance = np.full(count, -1, dtype=np.int32), np.zeros(count)
    flat = np.ascontiguousarray(rays, dtype=np.float64).reshape(-1)
    mujoco.mj_multiRay(
        model, data, np.asarray(start, float), flat, SHOWN, 1, -1, geom, distance, count, FAR
    )
    return geom.reshape(rays.shape[:-1]), np.where(geom < 0, np.inf, distance).reshape(
        rays.shape[:-1]
    )


def colors(model: Any) -> np.ndarray:
    """RGB in [0, 1] of every geom [ngeom, 3].

    It is the geom's own color, or its material's times the mean color of the material's texture.
    """
    means = [texture_mean(model, texture) for texture in range(model.ntex)]
    found = np.empty((model.ngeom, 3))
    for geom, own in enumerate(model.geom_rgba):
        material = model.geom_matid[geom]
        found[geom] = own[:3]
        if material >= 0 and np.array_equal(own, DEFAULT):
            texture = model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB]
            found[geom] = model.mat_rgba[material, :3] * (means[texture] if texture >= 0 else 1.0)
    return found


def texture_mean(model: Any, texture: int) -> np.ndarray:
    """Mean RGB in [0, 1] of a texture."""
    channels, start = model.tex_nchannel[texture], model.tex_adr[texture]
    size = model.tex_width[texture] * model.tex_height[texture] * channels
    pixels = model.tex_data[start : start + size].reshape(-1, channels)
    # Channel by channel is much faster than a mean along axis 0.
    return np.array([pixels[:, channel].mean() for channel in range(3)]) / 255


def slopes(points: np.ndarray, geom: np.ndarray, axis: int) -> np.ndarray:
    """Differences of the points [H, W, 3] to a neighbor along an axis of the picture.

    Of the two neighbors on the same geom the closer one is taken; nan if there is none.
    """
    ahead = np.diff(points, axis=axis, append=np.nan)
    ahead[np.diff(geom, axis=axis, append=-2) != 0] = np.nan
    # The roll moves the appended nan to the front, where there is no neighbor behind.
    behind = np.roll(ahead, 1, axis=axis)
    steep = [np.nan_to_num(np.linalg.norm(one, axis=-1), nan=np.inf) for one in (ahead, behind)]
    return np.where((steep[0] <= steep[1])[..., None], ahead, behind)


def normals(points: np.ndarray, geom: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Unit normals [H, W, 3] that face the eye, computed from neighboring points.

    A point without neighbors has a normal that points to the eye.
    """
    facing = -rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    found = np.cross(slopes(points, geom, 1), slopes(points, geom, 0))
    size = np.linalg.norm(found, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(size > 0, found / size, facing)
    return found * np.where((found * facing).sum(axis=-1, keepdims=True) < 0, -1.0, 1.0)


def shadowed(
    model: Any, data: Any, lamp: Vector, points: np.ndarray, hit: np.ndarray
) -> np.ndarray:
    """Mask [H, W] of the points [H, W, 3] that are hit but not reached by the lamp."""
    first = np.full(hit.shape, np.inf)
    first[hit] = cast(model, data, lamp, points[hit] - lamp)[1]
    return first < 1 - GAP


def render(
    model: Any,
    data: Any,
    view: View,
    *,
    width: int,
    height: int,
    lamp: Vector,
    markers: Sequence[Marker] = (),
    samples: int = 2,
) -> np.ndarray:
    """Render a picture, uint8 [height, width, 3].

    The positions of the geoms must be up to date (`mj_forward`).

    Args:
        model: MuJoCo's model.
        data: MuJoCo's data of the model.
        view: The camera.
        width: Width in pixels.
        height: Height in pixels.
        lamp: Position of the lamp in m.
        markers: Balls that are drawn on top.
        samples: Each pixel averages `samples`² rays.
    """
    rays = directions(view, width * samples, height * samples)
    geom, depth = cast(model, data, view.eye, rays)
    hit = geom >= 0
    # A missed ray has infinite depth; any finite point will do, because it is not drawn.
    points = view.eye + np.where(hit, depth, 1.0)[..., None] * rays
    light = lamp - points
    light /= np.linalg.norm(light, axis=-1, keepdims=True)
    cosine = np.clip((normals(points, geom, rays) * light).sum(axis=-1), 0.0, 1.0)
    # One lamp ray per pixel is enough; it costs more than a camera ray.
    dark = shadowed(model, data, lamp, points[::samples, ::samples], hit[::samples, ::samples])
    dark = dark.repeat(samples, axis=0).repeat(samples, axis=1)
    shade = AMBIENT + DIFFUSE * cosine * np.where(dark, SHADOW, 1.0)
    picture = np.where(hit[..., None], colors(model)[geom] * shade[..., None], BACKGROUND)
    for marker in markers:
        picture = draw(picture, depth, view.eye, rays, marker)
    picture = picture.reshape(height, samples, width, samples, 3).mean(axis=(1, 3))
    return (np.clip(picture, 0.0, 1.0) * 255).round().astype(np.uint8)


def draw(
    picture: np.ndarray, depth: np.ndarray, eye: Vector, rays: np.ndarray, marker: Marker
) -> np.ndarray:
    """Draw a ball: solve |eye + t · ray − center| = radius for the smaller t of every ray."""
    away = np.subtract(eye, marker.center)
    a, b, c = (rays**2).sum(axis=-1), rays @ away, away @ away - marker.radius**2
    root = b**2 - a * c
    near = (-b - np.sqrt(np.maximum(root, 0.0))) / a
    opacity = np.where(near < depth, 1.0, HIDDEN) * ((root > 0) & (near > 0))
    return picture + opacity[..., None] * (np.array(marker.color) - picture)
