"""Shapes with a volume, a distance or a density that is known in closed form."""

import numpy as np
import pytest

from abdomen_phantom.anatomy import Anatomy, paint
from abdomen_phantom.raster import TILE
from abdomen_phantom.scene import (
    GATHER,
    INTERSECT,
    KEEP_LABEL,
    SUBTRACT,
    Core,
    Scene,
    ellipsoid,
    gathered,
    plane,
    trunk,
    tube,
)
from atlas8k.core.volume import Grid


def still(scene):
    """The scene as an anatomy without displacement or noise."""
    return Anatomy(
        None, scene.packed(), np.zeros((3, 3, 3, 3)), np.full(3, -200.0), 200.0,
        np.zeros((TILE,) * 3, np.float32),
    )  # fmt: skip


def cube(half=60.0, step=2.0):
    n = round(2 * half / step)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -half + step / 2
    return Grid((n, n, n), affine)


def painted(*primitives, grid=None, edge=2.0, thickness=1.0, **style):
    scene = Scene()
    scene.paint(0.0, *primitives, label=style.pop("label", 1), **style)
    hu, label = paint(still(scene), grid or cube(), edge, thickness)
    return hu.transpose(1, 2, 0), label.transpose(1, 2, 0)


@pytest.mark.parametrize("turn", [(0, 0, 0), (30, -20, 70)])
def test_ellipsoid_has_its_volume_whatever_its_turn(turn):
    _, label = painted(ellipsoid((3, -4, 5), (20, 30, 40), turn))
    assert (label == 1).sum() * 8 == pytest.approx(4 / 3 * np.pi * 20 * 30 * 40, rel=0.01)


def test_straight_tube_has_the_volume_of_a_capsule():
    _, label = painted(tube([(0, 0, -30), (0, 0, 30)], [12, 12]))
    assert (label == 1).sum() * 8 == pytest.approx(
        np.pi * 144 * 60 + 4 / 3 * np.pi * 12**3, rel=0.01
    )


def test_flattened_tube_is_an_elliptic_cylinder():
    _, label = painted(tube([(0, 0, -90), (0, 0, 90)], [1, 1], (30, 15, 15)))
    assert (label[:, :, 30] == 1).sum() * 4 == pytest.approx(np.pi * 30 * 15, rel=0.04)


def test_trunk_of_power_two_is_an_ellipse_with_its_own_front_and_back():
    _, label = painted(trunk(40, 20, 30, 2.0, 0.0))
    area = np.pi / 2 * 40 * 20 + np.pi / 2 * 40 * 30
    assert (label[:, :, 5] == 1).sum() * 4 == pytest.approx(area, rel=0.02)


def test_difference_intersection_and_gathered_union():
    ball = ellipsoid((0, 0, 0), (40, 40, 40))
    whole = (painted(ball)[1] == 1).sum()
    _, half = painted(ball, plane((0, 0, 0), (0, 0, 1)))
    _, cut = painted(ball, plane((0, 0, 0), (0, 0, 1), op=SUBTRACT))
    assert half.sum() == cut.sum() == whole / 2
    assert not half[:, :, 30:].any()
    assert not cut[:, :, :30].any()
    holes = [ellipsoid((x, 0.4, 0.7), (14, 14, 14), op=GATHER) for x in (-20, 20)]
    _, inner = painted(ball, *holes, gathered(INTERSECT))
    _, outer = painted(ball, *holes, gathered(SUBTRACT))
    assert inner.sum() * 8 == pytest.approx(2 * 4 / 3 * np.pi * 14**3, rel=0.03)
    assert inner.sum() + outer.sum() == whole


def test_soft_edges_keep_the_mean_density():
    hu, _ = painted(ellipsoid((0, 0, 0), (30, 30, 30)), edge=4.0)
    assert (hu + 1000).sum() / 1000 * 8 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.02)
    assert ((hu > -900) & (hu < -100)).any()


def test_thick_slice_is_the_mean_of_what_it_covers():
    # The face of a half space at 2 mm below the slice's centre: of a slice of 6 mm from
    # -3 to 3, a sixth is inside.
    grid = Grid((8, 8, 2), np.array([[2, 0, 0, -7], [0, 2, 0, -7], [0, 0, 6, 0], [0, 0, 0, 1.0]]))
    body = (ellipsoid((0, 0, 0), (500, 500, 500)), plane((0, 0, -2), (0, 0, 1)))
    thick, label = painted(*body, grid=grid, edge=2.0, thickness=6.0)
    assert (thick[4, 4, 0] + 1000) / 1000 == pytest.approx(1 / 6, abs=0.01)
    assert not label.any()


def test_hollow_organ_has_wall_contents_and_level():
    scene = Scene()
    scene.paint(50.0, ellipsoid((0, 0, 0), (40, 40, 40)), label=9, core=Core(10, 5.0, level=8.0))
    hu, label = paint(still(scene), cube(), 1.0, 1.0)
    hu, label = hu.transpose(1, 2, 0), label.transpose(1, 2, 0)
    column = hu[30, :, 30]  # along y through the centre; index 30 is y = 1
    assert column[30] == pytest.approx(5)
    assert column[30 + 6] == pytest.approx(-960)  # y = 13, above the level
    assert column[30 - 18] == pytest.approx(50)  # y = -35, wall
    assert (label[30, 12:48, 30] == 9).all()


def test_inside_restricts_and_keep_label_keeps():
    scene = Scene()
    scene.paint(50.0, ellipsoid((0, 0, 0), (30, 30, 30)), label=5)
    scene.paint(100.0, tube([(-60, 0, 0), (60, 0, 0)], [6, 6]), label=KEEP_LABEL, inside=5)
    hu, label = paint(still(scene), cube(), 1.0, 1.0)
    assert set(np.unique(label)) == {0, 5}
    assert hu[30, 30, 30] == 100
    assert hu[30, 2, 30] == -1000


def test_threads_change_nothing():
    scene = Scene()
    scene.paint(50.0, ellipsoid((0, 0, 0), (30, 20, 30), (10, 20, 30)), label=5)
    one = paint(still(scene), cube(), 2.0, 5.0)
    four = paint(still(scene), cube(), 2.0, 5.0, threads=4)
    assert np.array_equal(one[0], four[0])
    assert np.array_equal(one[1], four[1])
