"""Pictures of a MuJoCo model without OpenGL: MuJoCo's own ray caster finds what each pixel sees,
NumPy colors it.

Left out: reflections, transparency, textures (a material has the mean color of its texture), sites.
A second cast from the lamp gives the shadows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np

SHOWN = np.array(
    [1, 1, 1, 0, 0, 0], dtype=np.uint8
)  # geom groups; by MuJoCo's custom 3-5 hold collision shapes
FAR = 10.0  # m; nothing of a table-top scene lies behind
BACKGROUND = (1.0, 1.0, 1.0)
AMBIENT, DIFFUSE = 0.55, 0.8  # Lambert: color · (ambient + diffuse · cosine), cut off at white
SHADOW = 0.3  # what is left of the cosine in a shadow
GAP = 2e-3  # relative: a lamp's ray that ends so close to the point has reached it
HIDDEN = 0.4  # opacity of a marker behind something
DEFAULT = np.array(
    [0.5, 0.5, 0.5, 1.0], dtype=np.float32
)  # MuJoCo: a geom of this color shows its material's

Vector = Sequence[float] | np.ndarray


class View(NamedTuple):
    """A pinhole camera with the world's z up in the picture; it must not look straight up or down."""

    eye: Vector  # m
    target: Vector  # m; the middle of the picture
    degrees: float  # vertical field of view


class Marker(NamedTuple):
    """A ball that no geom stands for, a goal say; seen through what hides it."""

    center: Vector  # m
    radius: float  # m
    color: tuple[float, float, float]


def directions(view: View, width: int, height: int) -> np.ndarray:
    """Rays [height, width, 3] through the pixels' middles, 1 m long along the optical axis: a
    distance is a depth.
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
    """What rays [..., 3] from one point meet first: geom [...] (-1: nothing) and distance [...] in
    lengths of the ray.

    MuJoCo leaves out geoms of alpha 0; groups from 3 up are left out here.
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
    """RGB in [0, 1] of every geom [ngeom, 3]: its own, or its material's times the mean of the
    material's texture.
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
    return (
        np.array([pixels[:, channel].mean() for channel in range(3)]) / 255
    )  # far quicker than along axis 0


def slopes(points: np.ndarray, geom: np.ndarray, axis: int) -> np.ndarray:
    """Differences of the points [H, W, 3] along a picture axis, from the neighbor on the same geom
    that is closer.
    """
    ahead = np.diff(points, axis=axis, append=np.nan)
    ahead[np.diff(geom, axis=axis, append=-2) != 0] = np.nan
    behind = np.roll(ahead, 1, axis=axis)
    steep = [np.nan_to_num(np.linalg.norm(one, axis=-1), nan=np.inf) for one in (ahead, behind)]
    return np.where((steep[0] <= steep[1])[..., None], ahead, behind)


def normals(points: np.ndarray, geom: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Unit normals [H, W, 3] towards the eye, from neighboring points; towards the eye itself where
    there is none.
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
    """Which points [H, W, 3] of those hit [H, W] the lamp does not reach."""
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
    """The picture, uint8 [height, width, 3], of `samples`² rays per pixel; needs positions
    (`mj_forward`).
    """
    rays = directions(view, width * samples, height * samples)
    geom, depth = cast(model, data, view.eye, rays)
    hit = geom >= 0
    points = view.eye + np.where(hit, depth, 1.0)[..., None] * rays  # of a miss: any point
    light = lamp - points
    light /= np.linalg.norm(light, axis=-1, keepdims=True)
    cosine = np.clip((normals(points, geom, rays) * light).sum(axis=-1), 0.0, 1.0)
    # One lamp's ray per pixel will do: it costs more than a camera's.
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
    """The picture with a ball: |eye + t · ray − center| = radius, solved for the smaller t."""
    away = np.subtract(eye, marker.center)
    a, b, c = (rays**2).sum(axis=-1), rays @ away, away @ away - marker.radius**2
    root = b**2 - a * c
    near = (-b - np.sqrt(np.maximum(root, 0.0))) / a
    opacity = np.where(near < depth, 1.0, HIDDEN) * ((root > 0) & (near > 0))
    return picture + opacity[..., None] * (np.array(marker.color) - picture)
