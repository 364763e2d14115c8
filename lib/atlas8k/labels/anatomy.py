"""What no patient's organs look like: numbers that mean something else, a mirrored file.

:mod:`atlas8k.labels.checks` finds places where a label is a little wrong; this finds labels
whose organs are not what they are called. The limits are wide: they lie far outside of what
50 real bodies and known diseases show, and organs that the image cuts off are judged by
what is left of them only. A rare patient (situs inversus, a pelvic kidney on the other side)
breaks one rightly, so that callers ask and do not delete.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import numpy.typing as npt

from atlas8k.components import label_components
from atlas8k.grid import Grid
from atlas8k.organs import ORGAN_IDS, ORGAN_NAMES

VESSELS = ("aorta", "postcava")
ALWAYS_THERE = ("liver", *VESSELS)
"""Organs that nobody lives without."""

VOLUME_ML: Mapping[str, tuple[float, float]] = {
    "aorta": (3.0, 1500.0),
    "gall_bladder": (0.0, 1000.0),
    "kidney_left": (3.0, 5000.0),
    "kidney_right": (3.0, 5000.0),
    "liver": (200.0, 8000.0),
    "pancreas": (3.0, 1000.0),
    "postcava": (2.0, 500.0),
    "spleen": (2.0, 6000.0),
    "stomach": (8.0, 6000.0),
}
"""Least and most of a whole organ, ml. In 50 bodies, 5 % to 95 %: aorta 83-314, gall bladder
4-69, kidneys 73-242, liver 1,035-2,511, pancreas 44-128, postcava 22-104, spleen 84-593 (the
largest 3,087), stomach 95-954; widened by what disease does (polycystic kidneys, hydrops,
aneurysm, splenomegaly, atrophy, what a resection leaves)."""

OTHER_ML: Mapping[str, tuple[float, float]] = {
    "adrenal_gland_left": (0.2, 60.0),
    "adrenal_gland_right": (0.2, 60.0),
    "duodenum": (12.0, 600.0),
}
"""The same of structures beside the nine that tell datasets apart: an adrenal gland has 3 to
6 ml, a duodenum 40 to 120."""

_REACH_MM: Mapping[str, float] = {
    "gall_bladder": 250.0,
    "kidney_left": 350.0,
    "kidney_right": 350.0,
    "pancreas": 200.0,
}
"""Extent from feet to head that no organ has; in 50 bodies, 95 %: 72, 125, 127 and 111."""

_TUBE_MM, _TUBE = 100.0, 5.0
"""What is that long and so many times as long as it is wide in its slices is a vessel: vessels
of real bodies 5.2 to 15.6, all others up to 2.9."""

_LEAST_TUBE, _LEAST_CUT_TUBE = 3.0, 2.0
"""A vessel is at least so many times as long as wide; of one that the image cuts above or below,
what is left of it is, where that is long enough to see."""
_WIDEST_MM = 60.0
"""No vessel is wider in most of its slices than long, and that wide; an aneurysm may be wide."""

_BESIDE_LIVER_MM: Mapping[str, tuple[float, float]] = {
    "aorta": (-86.0, -58.0),
    "gall_bladder": (-22.0, 28.0),
    "kidney_left": (-160.0, -98.0),
    "kidney_right": (-14.0, 25.0),
    "pancreas": (-107.0, -51.0),
    "postcava": (-55.0, -27.0),
    "spleen": (-198.0, -119.0),
    "stomach": (-147.0, -80.0),
}
"""Centre minus the liver's centre, x of RAS (to the right), mm: 5 % and 95 % of 42 bodies."""
_FAR_MM = 100.0
_ABOVE_LIVER_MM, _BEFORE_LIVER_MM, _PELVIS_MM = 20.0, 15.0, -150.0
"""A kidney's centre lies 20 to 115 mm below the liver's and 15 to 79 behind it in 41 bodies (5 %
to 95 %); a kidney that lies in the pelvis may lie in front."""

_PLACES_MM: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "liver": {"pancreas": (76.0, -5.0), "spleen": (153.0, 51.0), "stomach": (107.0, -17.0)},
    "aorta": {"liver": (-73.0, -23.0)},
    "postcava": {"liver": (-41.0, -11.0)},
}
"""Where an organ is to be looked for from another one's centre, x and y of RAS, mm: means of
42 bodies (8 of the vessels)."""
_MARGIN_MM = 20.0
_TRUNK_MM = 300.0
"""An image that wide, around any of these organs, shows some of the liver."""

_TWO_APART_MM, _TWO_SHARE = 80.0, 0.25
_BORDER = 2
_STEP_MM = 2.0


@dataclass(frozen=True)
class Impossible:
    """One thing in a label that no patient has.

    Attributes
    ----------
    organ
        Name of the organ.
    rule
        ``volume``, ``shape``, ``place``, ``two``, ``mirrored`` or ``missing``.
    text
        One sentence for people.
    """

    organ: str
    rule: str
    text: str


def impossible(
    array: npt.NDArray[np.uint8], grid: Grid, absent: Collection[str] = ()
) -> list[Impossible]:
    """Find what is anatomically impossible in a label map.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids 0 to 9 on `grid`, any axes.
    absent
        Organs that the label says are not there.
    """
    body = _Body.of(array, grid)
    mirrored = list(_mirrored(body))
    return [
        *(one for organ in body.organs.values() for one in _size(organ)),
        *(one for organ in body.organs.values() for one in _shape(organ)),
        *_two(body),
        *mirrored,
        *_turned(body),
        *(() if mirrored else _place(body)),
        *_missing(body, absent),
    ]


def missing(array: npt.NDArray[np.uint8], grid: Grid, absent: Collection[str]) -> list[Impossible]:
    """Find organs that nobody lacks among those a label says are absent; as :func:`impossible`."""
    if not {*ALWAYS_THERE} & {*absent}:
        return []
    return list(_missing(_Body.of(array, grid), absent))


def impossible_volumes(
    array: npt.NDArray[np.uint8], grid: Grid, names: Mapping[int, str]
) -> list[Impossible]:
    """Find structures beside the nine whose volume they cannot have; `names` by raw value."""
    table = np.zeros(256, np.uint8)
    known = {value: name for value, name in names.items() if name in OTHER_ML}
    for value in known:
        table[value] = value
    found = _Body.of(table[array], grid, known).organs.values()
    return [one for organ in found for one in _size(organ)]


@dataclass(frozen=True, eq=False)
class _Organ:
    """One organ of a label.

    Attributes
    ----------
    ml, centre, extent
        Volume, centre of mass (RAS, mm) and extent along R, A and S, mm.
    width
        Larger of the two extents within a slice, median over the slices, mm.
    cut
        By side: it comes within two voxels of the image's border, ``(3, 2)`` bool.
    """

    name: str
    mask: npt.NDArray[np.bool_]
    ml: float
    centre: npt.NDArray[np.float64]
    extent: npt.NDArray[np.float64]
    width: float
    cut: npt.NDArray[np.bool_]

    @property
    def tube(self) -> float:
        """How many times as long, from feet to head, as wide."""
        return float(self.extent[2] / self.width)

    @property
    def whole(self) -> bool:
        return not self.cut.any()


@dataclass(frozen=True, eq=False)
class _Body:
    """All organs, on a grid along R, A, S that is no finer than needed."""

    grid: Grid
    organs: dict[str, _Organ]

    @classmethod
    def of(
        cls, array: npt.NDArray[np.uint8], grid: Grid, names: Mapping[int, str] | None = None
    ) -> _Body:
        steps = [max(1, int(_STEP_MM / size)) for size in grid.spacing]
        affine = grid.affine.copy()
        affine[:3, :3] *= steps
        coarse = array[:: steps[0], :: steps[1], :: steps[2]]
        transform = nib.orientations.io_orientation(affine)
        turned = nib.orientations.apply_orientation(coarse, transform)
        affine = affine @ nib.orientations.inv_ornt_aff(transform, coarse.shape)
        n = turned.shape
        whole = Grid((n[0], n[1], n[2]), affine)
        names = names or {number: organ for organ, number in ORGAN_IDS.items()}
        organs = {
            name: organ
            for value, name in names.items()
            if (organ := _measured(name, np.asarray(turned == value), whole)) is not None
        }
        return cls(whole, organs)

    def holds(self, place: npt.NDArray[np.float64]) -> bool:
        """Whether a place, RAS mm, lies well inside the image."""
        index = np.linalg.solve(self.grid.affine, [*place, 1.0])[:3]
        margin = _MARGIN_MM / np.array(self.grid.spacing)
        last = np.array(self.grid.shape) - 1 - margin
        return bool((index >= margin).all() and (index <= last).all())


def _measured(name: str, mask: npt.NDArray[np.bool_], grid: Grid) -> _Organ | None:
    index = np.argwhere(mask)
    if not len(index):
        return None
    low, high = index.min(axis=0), index.max(axis=0)
    spacing = np.array(grid.spacing)
    box = mask[low[0] : high[0] + 1, low[1] : high[1] + 1, low[2] : high[2] + 1]
    widths = np.maximum(_spans(box.any(axis=1)) * spacing[0], _spans(box.any(axis=0)) * spacing[1])
    border = np.minimum(_BORDER, np.array(mask.shape) // 4)
    return _Organ(
        name,
        mask,
        len(index) * grid.voxel_ml,
        grid.affine[:3, :3] @ index.mean(axis=0) + grid.affine[:3, 3],
        (high - low + 1) * spacing,
        float(np.median(widths[widths > 0])),
        np.column_stack([low < border, high >= np.array(mask.shape) - border]),
    )


def _spans(shadow: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """First to last voxel of each slice; ``(N, Z)`` to ``(Z,)``, 0 where there is none."""
    there = shadow.any(axis=0)
    first = shadow.argmax(axis=0)
    last = len(shadow) - 1 - shadow[::-1].argmax(axis=0)
    return np.where(there, last - first + 1, 0)


def _size(organ: _Organ) -> Iterator[Impossible]:
    least, most = (VOLUME_ML | OTHER_ML)[organ.name]  # type: ignore[operator]
    if organ.ml > most:
        limit = f"nobody's has more than {most:,.0f}"
    elif organ.whole and organ.ml < least:
        limit = f"a whole one has more than {least:g}"
    else:
        return
    yield Impossible(organ.name, "volume", f"{organ.name} has {organ.ml:,.1f} ml; {limit}")


def _shape(organ: _Organ) -> Iterator[Impossible]:
    """Vessels are long tubes from feet to head, other organs are not."""
    long = organ.extent[2]
    said = f"{organ.name} is {long:.0f} mm long and {organ.width:.0f} mm wide"
    if organ.name in VESSELS:
        if organ.cut[2].any():
            least = _LEAST_CUT_TUBE if long >= _TUBE_MM else float(organ.width > _WIDEST_MM)
        else:
            least = _LEAST_TUBE
        if organ.tube < least:
            yield Impossible(organ.name, "shape", f"{said}: no vessel's shape")
    elif long >= _TUBE_MM and organ.tube > _TUBE and not organ.cut[:2].any():
        yield Impossible(organ.name, "shape", f"{said}: the shape of the aorta or postcava")
    elif long > _REACH_MM.get(organ.name, np.inf):
        yield Impossible(
            organ.name, "shape", f"{said}; none reaches over {_REACH_MM[organ.name]:.0f} mm"
        )


def _two(body: _Body) -> Iterator[Impossible]:
    """Both kidneys under the name of one."""
    for name in ("kidney_left", "kidney_right"):
        organ = body.organs.get(name)
        if organ is None or organ.extent[0] < _TWO_APART_MM:
            continue
        parts = label_components(np.asfortranarray(organ.mask))
        sizes = np.bincount(parts.ravel(order="K"))[1:]
        big = [i + 1 for i in np.flatnonzero(sizes >= _TWO_SHARE * sizes.max())]
        x = [float(np.argwhere(parts == i)[:, 0].mean()) * body.grid.spacing[0] for i in big]
        if max(x) - min(x) >= _TWO_APART_MM:
            yield Impossible(
                name,
                "two",
                f"{name} is two large pieces {max(x) - min(x):.0f} mm apart: both kidneys",
            )


def _mirrored(body: _Body) -> Iterator[Impossible]:
    """Left of a pair on the right of it."""
    for left, right in (("spleen", "liver"), ("stomach", "liver"), ("kidney_left", "kidney_right")):
        if left not in body.organs or right not in body.organs:
            continue
        gap = float(body.organs[left].centre[0] - body.organs[right].centre[0])
        if gap > 0:
            yield Impossible(
                left,
                "mirrored",
                f"{left} lies {gap:.0f} mm to the right of {right}: left and right are swapped, "
                "or the numbers mean other organs (or situs inversus: look at the CT)",
            )


def _turned(body: _Body) -> Iterator[Impossible]:
    """Kidneys above or in front of the liver: feet and head, or front and back, are swapped."""
    liver = body.organs.get("liver")
    if liver is None or liver.cut.any():
        return
    for name in ("kidney_left", "kidney_right"):
        organ = body.organs.get(name)
        if organ is None:
            continue
        _, front, above = (float(mm) for mm in organ.centre - liver.centre)
        where = []
        if above > _ABOVE_LIVER_MM:
            where.append(f"{above:.0f} mm above")
        if front > _BEFORE_LIVER_MM and above > _PELVIS_MM:
            where.append(f"{front:.0f} mm in front of")
        if where:
            yield Impossible(
                name,
                "mirrored",
                f"{name} lies {' and '.join(where)} the liver's centre: the file is upside down, "
                "front and back are swapped, or the numbers mean other organs",
            )


def _place(body: _Body) -> Iterator[Impossible]:
    """Organs far to the left or right of where they are beside the liver."""
    liver = body.organs.get("liver")
    if liver is None or liver.cut[0].any():
        return
    for name, (low, high) in _BESIDE_LIVER_MM.items():
        organ = body.organs.get(name)
        if organ is None:
            continue
        x = float(organ.centre[0] - liver.centre[0])
        if not low - _FAR_MM <= x <= high + _FAR_MM:
            side = "right" if x > 0 else "left"
            yield Impossible(
                name,
                "place",
                f"{name} lies {abs(x):.0f} mm to the {side} of the liver's centre; "
                f"usual is {low:.0f} to {high:.0f} (right is positive)",
            )


def _missing(body: _Body, absent: Collection[str]) -> Iterator[Impossible]:
    """Organs that nobody lacks, said to be absent where the image covers their place."""
    for name in ALWAYS_THERE:
        if name not in absent or name in body.organs:
            continue
        for beside, (x, y) in _PLACES_MM[name].items():
            organ = body.organs.get(beside)
            if organ is None or organ.cut[:2].any() or (name == "liver" and organ.cut[2].any()):
                continue
            wide = name == "liver" and body.grid.shape[0] * body.grid.spacing[0] >= _TRUNK_MM
            if wide or body.holds(organ.centre + np.array([x, y, 0.0])):
                yield Impossible(
                    name, "missing", f"{name} has no voxels beside the {beside}; nobody lacks it"
                )
                break


def listed(found: Collection[Impossible]) -> str:
    """Findings as one text, in the order of the organs."""
    order = {name: i for i, name in enumerate((*ORGAN_NAMES, *OTHER_ML))}
    return "; ".join(one.text for one in sorted(found, key=lambda one: order[one.organ]))
