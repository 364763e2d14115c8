"""Find wrong labels by anatomical rules: mirrored, cut short, leaked, in pieces.

The rules are those that found label noise in AbdomenAtlas 1.0 and its sources (Touchstone,
appendix E). They warn; a rare patient breaks one rightly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.components import label_components
from atlas8k.core.findings import Finding
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGANS, find_organ
from atlas8k.core.voxels import organ_mask
from atlas8k.labels.plausibility import (
    Body,
    Box,
    at_border,
    impossible_of,
    unusual_of,
)

TOUCHING: tuple[tuple[str, str, int], ...] = (
    ("kidney_left", "kidney_right", 0),
    ("liver", "kidney_left", 10),
    ("liver", "aorta", 10),
    ("spleen", "kidney_right", 0),
    ("spleen", "gall_bladder", 0),
    ("stomach", "kidney_left", 0),
    ("stomach", "aorta", 0),
    ("stomach", "postcava", 0),
)
"""Organs that do not meet, and up to how many shared border voxels are let pass."""

AORTA_SLICES = 0.03
BIFURCATION_MM = 50.0
"""The postcava begins that much lower at most than the aorta ends, about two vertebrae."""

SMALL_PIECE = 0.10
SPECK_ML = 0.1
"""Smaller pieces are let pass: maps of real bodies have single voxels astray (0.007 to 0.03 ml)."""

ONE_SIDED = (("liver", "kidney_left"), ("spleen", "kidney_right"))
"""Of :data:`TOUCHING`, those that do meet where the patient is a mirror image (situs inversus)."""


def check_label(array: npt.NDArray[np.uint8], grid: Grid) -> list[Finding]:
    """Return every rule that a label map breaks, in the order of the rules.

    They are ``mirrored``, ``laterality``, ``touching``, ``gap`` and ``pieces``.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids; other values are not looked at.
    grid
        Its grid; sides and slices are the patient's, whatever the axes.
    """
    return _broken(Body.of(array, grid, coarse=False))


def label_findings(
    array: npt.NDArray[np.uint8], grid: Grid, absent: Collection[str] = ()
) -> list[Finding]:
    """Return all that anatomy has against a label map, each organ and rule once.

    These are the rules of :func:`check_label`, what is impossible
    (:func:`~atlas8k.labels.plausibility.find_impossible`), and volumes that hardly anybody has.
    For every label of a campaign: the map is read once, in voxels of one to two millimetres,
    and each organ is looked at within its own box.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids; other values are not looked at.
    grid
        Its grid; any axes.
    absent
        Organs that the label marks absent.
    """
    body = Body.of(array, grid)
    impossible = impossible_of(body, absent)
    too_large = {finding.organ for finding in impossible if finding.rule == "volume"}
    unusual = (one for one in unusual_of(body) if one.organ not in too_large)
    found = (*_broken(body), *impossible, *unusual)
    return list({(one.organ, one.rule): one for one in reversed(found)}.values())[::-1]


def _broken(body: Body) -> list[Finding]:
    return [
        *_mirrored(body),
        *_laterality(body),
        *_touching(body),
        *_gap(body),
        *_pieces(body),
    ]


def _mirrored(body: Body) -> Iterator[Finding]:
    """Find pairs whose left organ lies to the right of its partner: left and right are swapped."""
    pairs = [(one.name, one.pair) for one in ORGANS if one.side == "left" and one.pair]
    for left, right in (*pairs, ("spleen", "liver")):
        if left in body.organs and right in body.organs:
            gap = float(body.organs[left].centre[0] - body.organs[right].centre[0])
            if gap > 0:
                text = (
                    f"{left} lies {gap:.0f} mm to the right of {right}: "
                    "left and right are swapped in the label or in the CT"
                )
                yield Finding(left, "mirrored", text)


def _situs_inversus(body: Body) -> bool:
    """Return whether the liver lies to the left of the spleen: what follows is mirrored, too."""
    liver, spleen = (body.organs.get(name) for name in ("liver", "spleen"))
    return liver is not None and spleen is not None and bool(liver.centre[0] < spleen.centre[0])


def _laterality(body: Body) -> Iterator[Finding]:
    if _situs_inversus(body):  # said already
        return
    organs = [body.organs.get(name) for name in ("liver", "kidney_left", "kidney_right")]
    places = [organ.centre for organ in organs if organ is not None]
    if len(places) < 3:
        return
    left, right = (float(np.linalg.norm(place - places[0])) for place in places[1:])
    if left < right:
        text = (
            f"kidney_left is {right - left:.0f} mm nearer the liver than kidney_right: "
            "the kidneys may be swapped"
        )
        yield Finding("kidney_left", "laterality", text)


def _touching(body: Body) -> Iterator[Finding]:
    inverse = _situs_inversus(body)
    for name, other, allowed in TOUCHING:
        box = _common(body, name, other)
        if box is None or (inverse and (name, other) in ONE_SIDED):
            continue
        first, second = (organ_mask(body.array[box], ORGAN_IDS[organ]) for organ in (name, other))
        voxels = int(np.count_nonzero(second & ndimage.binary_dilation(first)))
        if voxels > allowed:
            rare = "" if name != "kidney_left" else "; those of a horseshoe kidney do"
            yield Finding(name, "touching", f"{name} and {other} meet in {voxels} voxels{rare}")


def _common(body: Body, name: str, other: str) -> Box | None:
    """Return where the boxes of two organs meet, one voxel more on every side."""
    if name not in body.organs or other not in body.organs:
        return None
    pairs = zip(body.organs[name].box, body.organs[other].box, strict=True)
    spans = [slice(max(0, max(a.start, b.start) - 1), min(a.stop, b.stop) + 1) for a, b in pairs]
    apart = any(span.start >= span.stop for span in spans)
    return None if apart else (spans[0], spans[1], spans[2])


def _gap(body: Body) -> Iterator[Finding]:
    """Find slices, across the patient's long axis, with postcava or liver but no aorta.

    Slices between the postcava's origin and the aorta's bifurcation are as they should be. Above,
    the aorta passes the dome of the liver: one that ends lower lacks its upper end.
    """
    if not {"aorta", "postcava"} <= body.organs.keys():
        return
    aorta, postcava, liver = (
        organ_mask(body.array, ORGAN_IDS.get(organ, -1)).any(axis=(0, 1))
        for organ in ("aorta", "postcava", "liver")
    )
    below = np.arange(len(aorta)) < aorta.argmax()
    either, missing = np.flatnonzero(aorta | postcava), (postcava | (liver & ~below)) & ~aorta
    if np.count_nonzero(missing & below) * body.grid.spacing[2] <= BIFURCATION_MM:
        missing &= ~below
    slices = np.count_nonzero(missing)
    share = slices / (either[-1] - either[0] + 1)
    if share > AORTA_SLICES:
        text = f"{slices} slices ({share:.0%}) show postcava or liver but no aorta"
        yield Finding("aorta", "gap", text)


def _pieces(body: Body) -> Iterator[Finding]:
    """Find pieces smaller than 10 % of their organ, unless they may go on outside the image.

    Specks (:data:`SPECK_ML`) are none.
    """
    for organ in body.organs.values():
        known = find_organ(organ.name)
        if known is not None and not known.one_piece:
            continue
        parts = label_components(np.asfortranarray(organ.mask))
        sizes = np.bincount(parts.ravel(order="K"))[1:]
        small = [
            size
            for size, where in zip(sizes, ndimage.find_objects(parts), strict=True)
            if size * body.grid.voxel_ml >= SPECK_ML
            and size < SMALL_PIECE * sizes.sum()
            and not at_border(_shifted(where, organ.box), body.array.shape)
        ]
        if small:
            ml = float(sum(small)) * body.grid.voxel_ml
            text = f"{organ.name} has {len(small)} small pieces of {ml:.1f} ml in all"
            yield Finding(organ.name, "pieces", text)


def _shifted(inner: Box, outer: Box) -> Box:
    spans = [slice(i.start + o.start, i.stop + o.start) for i, o in zip(inner, outer, strict=True)]
    return spans[0], spans[1], spans[2]
