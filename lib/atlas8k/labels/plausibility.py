"""Measure a label's organs, and find those that no patient has, or hardly any.

:mod:`atlas8k.labels.checks` finds places where a label is a little wrong; this finds labels
whose organs are not what they are called (numbers that mean something else, a mirrored file).
The limits are wide: they lie far outside of what 50 real bodies and known diseases show, and
organs that the image cuts off are judged by what is left of them only. A rare patient (situs
inversus, a pelvic kidney on the other side) breaks one rightly, so that callers ask and do not
delete.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.components import label_components
from atlas8k.core.findings import Finding
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.resample import to_canonical
from atlas8k.core.structure_sets import NINE
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, parts_of
from atlas8k.core.voxels import organ_mask

Box = tuple[slice, slice, slice]

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
"""Least and most of a whole organ, ml: :data:`PEOPLE_ML` widened by what disease does
(polycystic kidneys, hydrops, aneurysm, splenomegaly, atrophy, what a resection leaves)."""

OTHER_ML: Mapping[str, tuple[float, float]] = {
    "adrenal_gland_left": (0.2, 60.0),
    "adrenal_gland_right": (0.2, 60.0),
    "duodenum": (12.0, 600.0),
}
"""The same of structures beside the nine that tell datasets apart: an adrenal gland has 3 to
6 ml, a duodenum 40 to 120."""

PEOPLE_ML: Mapping[str, tuple[float, float]] = {
    "aorta": (83.0, 314.2),
    "gall_bladder": (4.0, 69.2),
    "kidney_left": (73.0, 241.9),
    "kidney_right": (73.3, 227.5),
    "liver": (1034.6, 2510.5),
    "pancreas": (44.1, 128.4),
    "postcava": (22.4, 103.8),
    "spleen": (83.7, 593.2),
    "stomach": (95.4, 954.2),
}
"""5th and 95th percentile of the volume, ml: label maps of 50 bodies (30 hand-labelled
portal-venous CTs of patients, others of AbdomenAtlas, PanTS, TotalSegmentator, AMOS and the
ICRP), organs cut by the border of their CT left out; 42 to 47 bodies an organ, 9 of the aorta
and 8 of the postcava."""

FACTOR = 3.0
"""An organ is asked about below a third of the 5th and above three times the 95th percentile:
disease makes spleens and kidneys that far out, and a question costs a tick."""

BORDER_VOXELS = 3
"""An organ that comes nearer than this to the image's edge may go on outside."""

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


def find_impossible(
    array: npt.NDArray[np.uint8], grid: Grid, absent: Collection[str] = ()
) -> list[Finding]:
    """Find what is anatomically impossible in a label map.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids 0 to 9 on `grid`, any axes.
    absent
        Organs that the label marks absent.
    """
    return impossible_of(Body.of(array, grid), absent)


def impossible_of(body: Body, absent: Collection[str] = ()) -> list[Finding]:
    """Find what is anatomically impossible in a body; see :func:`find_impossible`."""
    mirrored = list(_mirrored(body))
    return [
        *(finding for organ in body.organs.values() for finding in _size(organ)),
        *(finding for organ in body.organs.values() for finding in _shape(organ)),
        *_two(body),
        *mirrored,
        *_turned(body),
        *(() if mirrored else _place(body)),
        *_missing(body, absent),
    ]


def find_missing(
    array: npt.NDArray[np.uint8], grid: Grid, absent: Collection[str]
) -> list[Finding]:
    """Find organs that nobody lacks among those marked absent; see :func:`find_impossible`."""
    if not {*ALWAYS_THERE} & {*absent}:
        return []
    return list(_missing(Body.of(array, grid), absent))


def find_impossible_volumes(
    array: npt.NDArray[np.uint8], grid: Grid, names: Mapping[int, str]
) -> list[Finding]:
    """Find structures beside the nine of an impossible volume; `names` by raw value."""
    known = {value: name for value, name in names.items() if name in OTHER_ML}
    organs = Body.of(array, grid, known).organs.values() if known else ()
    return [finding for organ in organs for finding in _size(organ)]


@dataclass(frozen=True, eq=False)
class Organ:
    """One organ of a label, on a grid along R, A, S.

    Attributes
    ----------
    box
        The smallest that holds it.
    mask
        ``(X, Y, Z)`` bool, in `box`.
    """

    name: str
    box: Box
    mask: npt.NDArray[np.bool_]
    grid: Grid

    @cached_property
    def ml(self) -> float:
        """Volume, ml."""
        return int(np.count_nonzero(self.mask)) * self.grid.voxel_ml

    @cached_property
    def centre(self) -> npt.NDArray[np.float64]:
        """Centre of mass, RAS, mm."""
        index = np.argwhere(self.mask).mean(axis=0) + [span.start for span in self.box]
        return np.asarray(self.grid.affine[:3, :3] @ index + self.grid.affine[:3, 3])

    @cached_property
    def extent(self) -> npt.NDArray[np.float64]:
        """Along R, A and S, mm."""
        return np.asarray(self.mask.shape * np.array(self.grid.spacing))

    @cached_property
    def width(self) -> float:
        """Larger of the two extents within a slice, median over the slices, mm."""
        across = [_spans(self.mask.any(axis=1 - a)) * self.grid.spacing[a] for a in (0, 1)]
        widths = np.maximum(*across)
        return float(np.median(widths[widths > 0]))

    @property
    def tube(self) -> float:
        """Ratio of length, from feet to head, to width."""
        return float(self.extent[2] / self.width)

    @cached_property
    def cut(self) -> npt.NDArray[np.bool_]:
        """Sides on which it comes within two voxels of the image's border, ``(3, 2)`` bool."""
        size = np.array(self.grid.shape)
        border = np.minimum(_BORDER, size // 4)
        low, stop = np.array([(span.start, span.stop) for span in self.box]).T
        return np.column_stack([low < border, stop > size - border])


@dataclass(frozen=True, eq=False)
class Body:
    """A label's organs, its axes turned to run along R, A, S."""

    array: npt.NDArray[np.uint8]
    grid: Grid
    organs: dict[str, Organ]

    @classmethod
    def of(
        cls,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        stated: Mapping[int, str] | None = None,
        *,
        coarse: bool = True,
    ) -> Body:
        """Find the organs of a label.

        Parameters
        ----------
        array
            ``(X, Y, Z)`` uint8 on `grid`, any axes.
        stated
            Names by value; organ ids where not given, and what lies within an organ is the
            organ's, too.
        coarse
            Look at voxels of two millimetres, which tell what an organ is.
        """
        names = stated or {number: organ for organ, number in ORGAN_IDS.items()}
        steps = [max(1, int(_STEP_MM / size)) if coarse else 1 for size in grid.spacing]
        affine = grid.affine.copy()
        affine[:3, :3] *= steps
        part = array[:: steps[0], :: steps[1], :: steps[2]]
        turned = to_canonical(Volume(part, Grid(part.shape, affine)))  # type: ignore[arg-type]
        if stated is None:
            boxes = organ_boxes(turned.array)
        else:
            found = ndimage.find_objects(turned.array, max_label=max(stated, default=0))
            boxes = {value: box for value, box in enumerate(found, start=1) if box}
        organs = {}
        for value, name in names.items():
            if (box := boxes.get(value)) is not None:
                part = turned.array[box]
                mask = organ_mask(part, value) if stated is None else part == value
                organs[name] = Organ(name, box, mask, turned.grid)
        return cls(turned.array, turned.grid, organs)

    def holds(self, place: npt.NDArray[np.float64]) -> bool:
        """Return whether a place, RAS mm, lies well inside the image."""
        index = np.linalg.solve(self.grid.affine, [*place, 1.0])[:3]
        margin = _MARGIN_MM / np.array(self.grid.spacing)
        last = np.array(self.grid.shape) - 1 - margin
        return bool((index >= margin).all() and (index <= last).all())


def _spans(shadow: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return how many voxels each slice spans; ``(N, Z)`` to ``(Z,)``, 0 where there is none."""
    last = len(shadow) - shadow[::-1].argmax(axis=0)
    return np.where(shadow.any(axis=0), last - shadow.argmax(axis=0), 0)


def organ_boxes(array: npt.NDArray[np.uint8]) -> dict[int, Box]:
    """Return the box of each structure in use that a label map has, what lies within it too."""
    found = ndimage.find_objects(array, max_label=max(ORGAN_IDS.values()))
    boxes = {}
    for number in ORGAN_IDS.values():
        if own := [found[part - 1] for part in parts_of(number) if found[part - 1]]:
            x, y, z = (
                slice(min(s.start for s in spans), max(s.stop for s in spans))
                for spans in zip(*own, strict=True)
            )
            boxes[number] = x, y, z
    return boxes


def at_border(box: Box, shape: tuple[int, ...]) -> bool:
    """Return whether a box comes within 3 voxels of the image's edge."""
    n = BORDER_VOXELS
    return any(s.start < n or s.stop > size - n for s, size in zip(box, shape, strict=True))


def plausible_ml(organ: str) -> tuple[float, float]:
    """Return the volumes, ml, that a submission is not asked about; all, of other structures."""
    low, high = PEOPLE_ML.get(organ, (0.0, np.inf))
    return low / FACTOR, high * FACTOR


def find_odd_volumes(
    array: npt.NDArray[np.uint8], grid: Grid, voxels: Mapping[str, int]
) -> dict[str, str]:
    """Find organs of a volume that hardly anybody has, each with the question to ask.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids.
    voxels
        Of the organs to be judged. One without voxels is not, nor is one within 3 voxels of
        the CT's border, which may go on outside.
    """
    reasons = {}
    for organ, n in voxels.items():
        number = ORGAN_IDS[organ]
        whole = organ_mask(array, number).sum() if parts_of(number)[1:] else n
        ml = float(whole) * grid.voxel_ml
        low, high = plausible_ml(organ)
        if n == 0 or low <= ml <= high:
            continue
        (box,) = ndimage.find_objects(organ_mask(array, number).view(np.uint8)) or (None,)
        if box is None or not at_border(box, array.shape):
            reasons[organ] = f"{ml:,.1f} ml, where {low:,.1f} to {high:,.1f} ml are plausible"
    return reasons


def unusual_of(body: Body) -> Iterator[Finding]:
    """Find organs of a volume that hardly anybody has; rule ``unusual``.

    One that the image cuts may go on outside: it is not too small, but may be too large.
    The limits are those that a submission is asked about, :data:`PEOPLE_ML` and :data:`FACTOR`.
    """
    for organ in body.organs.values():
        low, high = plausible_ml(organ.name)
        if organ.ml > high or (organ.ml < low and not organ.cut.any()):
            text = f"{organ.name} has {organ.ml:,.1f} ml; {low:,.1f} to {high:,.1f} are plausible"
            yield Finding(organ.name, "unusual", text)


def _size(organ: Organ) -> Iterator[Finding]:
    least, most = VOLUME_ML.get(organ.name) or OTHER_ML.get(organ.name, (0.0, np.inf))
    if organ.ml > most:
        limit = f"nobody's has more than {most:,.0f}"
    elif not organ.cut.any() and organ.ml < least:
        limit = f"a whole one has more than {least:g}"
    else:
        return
    yield Finding(organ.name, "volume", f"{organ.name} has {organ.ml:,.1f} ml; {limit}")


def _shape(organ: Organ) -> Iterator[Finding]:
    """Find vessels that are no long tubes from feet to head, and other organs that are."""
    long = organ.extent[2]
    size = f"{organ.name} is {long:.0f} mm long and {organ.width:.0f} mm wide"
    if organ.name in VESSELS:
        if organ.cut[2].any():
            least = _LEAST_CUT_TUBE if long >= _TUBE_MM else float(organ.width > _WIDEST_MM)
        else:
            least = _LEAST_TUBE
        if organ.tube < least:
            yield Finding(organ.name, "shape", f"{size}: no vessel's shape")
    elif organ.name in NINE and long >= _TUBE_MM and organ.tube > _TUBE and not organ.cut[:2].any():
        yield Finding(organ.name, "shape", f"{size}: the shape of the aorta or postcava")
    elif long > _REACH_MM.get(organ.name, np.inf):
        yield Finding(
            organ.name, "shape", f"{size}; none reaches over {_REACH_MM[organ.name]:.0f} mm"
        )


def _two(body: Body) -> Iterator[Finding]:
    """Find both kidneys under the name of one."""
    for name in ("kidney_left", "kidney_right"):
        organ = body.organs.get(name)
        if organ is None or organ.extent[0] < _TWO_APART_MM:
            continue
        parts = label_components(np.asfortranarray(organ.mask))
        sizes = np.bincount(parts.ravel(order="K"))[1:]
        big = np.flatnonzero(sizes >= _TWO_SHARE * sizes.max()) + 1
        centres = np.array(ndimage.center_of_mass(parts > 0, parts, big))
        x = centres[:, 0] * body.grid.spacing[0]
        if (apart := float(np.ptp(x))) >= _TWO_APART_MM:
            yield Finding(
                name,
                "two",
                f"{name} is two large pieces {apart:.0f} mm apart: both kidneys",
            )


def _mirrored(body: Body) -> Iterator[Finding]:
    """Find pairs whose left organ lies to the right of its partner."""
    for left, right in (("spleen", "liver"), ("stomach", "liver"), ("kidney_left", "kidney_right")):
        if left not in body.organs or right not in body.organs:
            continue
        gap = float(body.organs[left].centre[0] - body.organs[right].centre[0])
        if gap > 0:
            yield Finding(
                left,
                "mirrored",
                f"{left} lies {gap:.0f} mm to the right of {right}: left and right are swapped, "
                "or the numbers mean other organs (or situs inversus: look at the CT)",
            )


def _turned(body: Body) -> Iterator[Finding]:
    """Find kidneys above or in front of the liver: head and feet, or front and back, swapped."""
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
            yield Finding(
                name,
                "mirrored",
                f"{name} lies {' and '.join(where)} the liver's centre: the file is upside down, "
                "front and back are swapped, or the numbers mean other organs",
            )


def _place(body: Body) -> Iterator[Finding]:
    """Find organs far to the left or right of their usual place beside the liver."""
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
            yield Finding(
                name,
                "place",
                f"{name} lies {abs(x):.0f} mm to the {side} of the liver's centre; "
                f"usual is {low:.0f} to {high:.0f} (right is positive)",
            )


def _missing(body: Body, absent: Collection[str]) -> Iterator[Finding]:
    """Find organs that nobody lacks, marked absent where the image shows their place."""
    for name in ALWAYS_THERE:
        if name not in absent or name in body.organs:
            continue
        for beside, (x, y) in _PLACES_MM[name].items():
            organ = body.organs.get(beside)
            if organ is None or organ.cut[:2].any() or (name == "liver" and organ.cut[2].any()):
                continue
            wide = name == "liver" and body.grid.shape[0] * body.grid.spacing[0] >= _TRUNK_MM
            if wide or body.holds(organ.centre + np.array([x, y, 0.0])):
                yield Finding(
                    name, "missing", f"{name} has no voxels beside the {beside}; nobody lacks it"
                )
                break


def findings_text(findings: Collection[Finding]) -> str:
    """Return the findings as one text, in the order of the organs."""
    order = {name: i for i, name in enumerate(dict.fromkeys((*ORGAN_NAMES, *OTHER_ML)))}
    return "; ".join(
        finding.text for finding in sorted(findings, key=lambda finding: order[finding.organ])
    )
