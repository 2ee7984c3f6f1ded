"""Pictures by ray casting, against closed forms of balls and boxes.

Silhouettes, depths, normals, colors and shadows are compared.
"""

import mujoco
import numpy as np
import pytest

from experiments.metaworld_gallery.raycamera import (
    AMBIENT,
    DIFFUSE,
    HIDDEN,
    SHADOW,
    Marker,
    View,
    cast,
    colors,
    directions,
    normals,
    render,
)

RADIUS = 0.3
BALL = f'<geom type="sphere" size="{RADIUS}" rgba="0.5 0.25 0 1"/>'
BOX = '<geom type="box" size="0.2 0.3 0.1" rgba="0 0.5 0.5 1"/>'
VIEW = View(eye=(2.0, 0.0, 0.0), target=(0.0, 0.0, 0.0), degrees=30)


def scene(*geoms, assets=""):
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><asset>{assets}</asset><worldbody>{''.join(geoms)}</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def shot(*geoms, view=VIEW, width=60, height=40):
    rays = directions(view, width, height)
    geom, depth = cast(*scene(*geoms), view.eye, rays)
    return rays, geom, depth


def test_rays_span_the_field_of_view_around_the_target():
    rays = directions(VIEW, 60, 40)
    assert rays.shape == (40, 60, 3)
    np.testing.assert_allclose(rays.mean(axis=(0, 1)), [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rays[..., 0], -1)
    step = rays[0, 0, 2] - rays[1, 0, 2]
    assert rays[0, 0, 2] + step / 2 == pytest.approx(
        np.tan(np.radians(15))
    )  # up is up: row 0 is the top
    assert rays[0, 0, 1] < 0 < rays[0, -1, 1]  # seen from +x, +y is to the right
    np.testing.assert_allclose(rays[0, 1, 1] - rays[0, 0, 1], step)  # square pixels


def test_a_ball_has_its_silhouette_and_depth():
    rays, geom, depth = shot(BALL)
    a, b, c = (rays**2).sum(-1), (rays @ VIEW.eye), 4 - RADIUS**2
    root = b**2 - a * c
    assert np.array_equal(geom == 0, root > 0)
    assert np.array_equal(np.isinf(depth), root <= 0)
    inside = root > 0
    np.testing.assert_allclose(
        depth[inside], ((-b - np.sqrt(np.maximum(root, 0))) / a)[inside], rtol=1e-12
    )
    points = VIEW.eye + depth[inside, None] * rays[inside]
    found = normals(VIEW.eye + np.where(geom >= 0, depth, 0)[..., None] * rays, geom, rays)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1)
    agree = (found[inside] * points / RADIUS).sum(-1)
    assert np.median(agree) > 0.99
    assert agree.min() > 0.6  # at the rim a pixel spans a steep slope


def test_a_box_is_a_rectangle_of_one_depth_and_normal():
    rays, geom, depth = shot(BOX)
    at_face = VIEW.eye + 1.8 * rays
    assert np.array_equal(geom == 0, (abs(at_face[..., 1]) < 0.3) & (abs(at_face[..., 2]) < 0.1))
    np.testing.assert_allclose(depth[geom == 0], 1.8)
    found = normals(VIEW.eye + np.where(geom >= 0, depth, 0)[..., None] * rays, geom, rays)
    np.testing.assert_allclose(
        found[geom == 0], np.tile([1.0, 0, 0], ((geom == 0).sum(), 1)), atol=1e-9
    )


def test_another_geoms_points_are_no_slope():
    """A post one pixel wide before a wall: its own slope is unknown, so it looks at the eye."""
    rays = directions(VIEW, 5, 4)
    geom = np.zeros((4, 5), dtype=int)
    geom[:, 2] = 1
    points = VIEW.eye + np.where(geom == 1, 1.0, 2.0)[..., None] * rays
    found = normals(points, geom, rays)
    np.testing.assert_allclose(found[geom == 0], np.tile([1.0, 0, 0], (16, 1)), atol=1e-9)
    np.testing.assert_allclose(
        found[:, 2], -rays[:, 2] / np.linalg.norm(rays[:, 2], axis=-1, keepdims=True)
    )


@pytest.mark.parametrize("hidden", ['group="3"', 'group="5"', 'rgba="1 0 0 0"'])
def test_hidden_geoms_are_not_seen(hidden):
    screen = f'<geom type="box" size="0.1 1 1" pos="1 0 0" {hidden}/>'
    assert np.array_equal(shot(BALL, screen)[1], shot(BALL)[1])
    assert (shot(BALL, screen.replace(hidden, 'group="1"'))[1] == 1).all()


def test_colors_are_the_geoms_own_or_those_of_its_material():
    assets = """
      <texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1" \
width="64" height="64"/>
      <material name="plain" rgba="0.1 0.2 0.3 1"/>\
<material name="wood" texture="t" rgba="1 1 0.5 1"/>"""
    kinds = [
        'rgba="0.9 0.8 0.7 1"',
        'material="plain"',
        'material="wood"',
        'material="plain" rgba="1 0 1 1"',
        "",
    ]
    found = colors(scene(*(f'<geom size="0.1" {kind}/>' for kind in kinds), assets=assets)[0])
    expected = [[0.9, 0.8, 0.7], [0.1, 0.2, 0.3], [0.5, 0, 0.25], [1, 0, 1], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def picture(*geoms, lamp=(2.0, 0.0, 0.0), markers=(), view=VIEW):
    return render(*scene(*geoms), view, width=60, height=40, lamp=lamp, markers=markers) / 255


def test_a_face_that_looks_at_the_lamp_has_its_color_by_lambert():
    found = picture(BOX)
    np.testing.assert_allclose(
        found[20, 30], np.array([0, 0.5, 0.5]) * (AMBIENT + DIFFUSE), atol=3e-3
    )
    away = picture(BOX, lamp=(-5.0, 0.0, 0.0))
    np.testing.assert_allclose(away[20, 30], np.array([0, 0.5, 0.5]) * AMBIENT, atol=3e-3)
    assert (found[0] == 1).all()  # nothing there: the background


def test_a_ball_throws_the_shadow_that_geometry_says():
    """A lamp right above: the shadow on the floor is a disk, magnified by the distances."""
    floor = '<geom type="plane" size="5 5 1" rgba="0.5 0.5 0.5 1"/>'
    ball = '<geom type="sphere" size="0.2" pos="0 0 1" rgba="1 0 0 1"/>'
    view, lamp = View((3.0, 0.0, 2.0), (0.0, 0.0, 0.0), 40), (0.0, 0.0, 3.0)
    rays = directions(view, 60, 40)
    geom, depth = cast(*scene(floor, ball), view.eye, rays)
    away = np.linalg.norm(
        (view.eye + np.where(geom == 0, depth, 0.0)[..., None] * rays)[..., :2], axis=-1
    )
    edge = 3 * 0.2 / np.sqrt(2**2 - 0.2**2)  # the tangent from the lamp, followed to the floor
    cosine = 3 / np.hypot(away, 3)
    found = (
        render(*scene(floor, ball), view, width=60, height=40, lamp=lamp, samples=1)[..., 0] / 255
    )
    for part, kept in (
        ((away < edge) & (geom == 0), SHADOW),
        ((away > edge) & (away < 1) & (geom == 0), 1.0),
    ):
        assert part.sum() > 10
        np.testing.assert_allclose(
            found[part], 0.5 * (AMBIENT + DIFFUSE * kept * cosine[part]), atol=4e-3
        )


def test_a_marker_is_drawn_over_the_scene_and_through_what_hides_it():
    plain, color = picture(BALL), (1.0, 0.0, 1.0)
    front = picture(BALL, markers=[Marker((1.0, 0.0, 0.0), 0.05, color)])
    np.testing.assert_allclose(front[20, 30], color)
    behind = picture(BALL, markers=[Marker((-1.0, 0.0, 0.0), 0.05, color)])
    np.testing.assert_allclose(
        behind[20, 30], plain[20, 30] + HIDDEN * (color - plain[20, 30]), atol=5e-3
    )
    assert np.array_equal(behind[:10], plain[:10])
    at_the_eyes_back = picture(BALL, markers=[Marker((3.0, 0.0, 0.0), 0.05, color)])
    assert np.array_equal(at_the_eyes_back, plain)
