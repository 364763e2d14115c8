"""Refuse series that are no CT volume, with the reason.

The rules are checked in the order in which a person would look: kind of image, geometry,
whether planes are of one kind, and whether they are evenly stacked. The first that fails is
the reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from atlas8k.core.claims import excess
from atlas8k.core.errors import VolumeError
from atlas8k.formats.dicom.planes import Plane, frame_count, lacking, number, pixel_bytes, text

MIN_SLICES = 3
"""Fewest slices of a volume: fewer do not show whether they are evenly stacked."""

SAME_PLACE_MM = 0.01
"""Slices nearer than this are of one place: no scanner reconstructs finer steps, and
positions are written to a thousandth of a millimetre or finer."""

UNEVEN_STEPS = 0.2
"""How far a slice may lie from its even place, in steps. Rounded positions of thin slices
reach 0.16 (0.625 mm, one decimal); a missing slice is at least 0.5."""

MISSING_STEPS = 1.5
"""A gap of this many steps has room for a slice that is not there."""

SHEAR_PIXELS = 0.25
"""How far the stack may drift sideways from end to end, in pixels: less is rounding."""

TILT_DEGREES = 0.5
"""A gantry tilt below this is a reading error of the gantry."""

SAME_DIRECTION = 1e-3
"""Difference of direction cosines: 0.06 degrees, what three decimals round away."""

SAME_SPACING_MM = 1e-3
"""Difference of pixel distances: half a pixel over a row of 512."""

LISTED = 5
"""Places or numbers that a sentence lists; a longer list says how many more there are."""

_CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_ENHANCED = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"})
_SCREENS = frozenset(
    {"SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "SCREENSHOT", "DOSE_INFO", "DOSE", "PROT"}
)
_PROJECTIONS = frozenset(
    {"MIP", "MINIP", "MINIMUM", "MAXIMUM", "PROJECTION IMAGE", "PROJECTION", "VRT", "VOLREN"}
    | {"VOLUME RENDERING", "MPR_MIP", "MPR_MINIP", "SSD"}
)


class NoVolumeError(VolumeError):
    """There is no DICOM CT volume; the message says what there is."""


class SeriesRefusedError(NoVolumeError):
    """The named series, or every series, is no CT volume."""


class SeveralVolumesError(VolumeError):
    """There are several CT volumes and none was named."""


class Reason(StrEnum):
    """Reasons why a series is no CT volume."""

    NOT_CT = "not_ct"
    LOCALIZER = "localizer"
    SCREEN_SHOT = "screen_shot"
    PROJECTION = "projection"
    NOT_HOUNSFIELD = "not_hounsfield"
    DAMAGED = "damaged"
    NO_GEOMETRY = "no_geometry"
    SEVERAL_OBJECTS = "several_objects"
    TOO_FEW = "too_few"
    TOO_LARGE = "too_large"
    MIXED = "mixed"
    TILTED = "tilted"
    SHARED_UID = "shared_uid"
    TWO_PHASES = "two_phases"
    MISSING_SLICE = "missing_slice"
    UNEVEN = "uneven"


@dataclass(frozen=True)
class Refusal:
    """The refusal of a series: a reason for programs, a sentence for people."""

    reason: Reason
    message: str


class _Fault(Exception):  # noqa: N818
    """A reason, and the rest of a sentence that begins with the name of the series."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """Planes that all have a position and axes.

    Attributes
    ----------
    normal
        Normal of the first plane, LPS.
    positions
        ``(planes, 3)`` mm, LPS.
    places
        Positions along the normal, mm.
    """

    planes: Sequence[Plane]
    normal: npt.NDArray[np.float64]
    positions: npt.NDArray[np.float64]
    places: npt.NDArray[np.float64]

    @classmethod
    def of(cls, planes: Sequence[Plane]) -> Stacked:
        """Stack planes in any order by their place."""
        axes = np.array(planes[0].axes)
        normal = np.cross(axes[0], axes[1])
        positions = np.array([plane.position for plane in planes], dtype=np.float64)
        order = np.argsort(positions @ normal, kind="stable")
        positions = positions[order]
        return cls([planes[i] for i in order], normal, positions, positions @ normal)


def find_fault(planes: Sequence[Plane]) -> tuple[Reason, str] | None:
    """Find the first rule of a CT volume that planes break.

    Parameters
    ----------
    planes
        Planes of one series, at least one, in any order.

    Returns
    -------
    tuple or None
        Reason, and the rest of a sentence that begins with the name of the series.
    """
    try:
        for rule in (
            _check_kind,
            _check_objects,
            _check_hounsfield,
            _check_pixels,
            _check_geometry,
            _check_one_kind,
        ):
            rule(planes)
        stack = Stacked.of(planes)
        for check in (_check_line, _check_uids, _check_extent, _check_steps):
            check(stack)
    except _Fault as fault:
        return fault.args[0], fault.args[1]
    return None


def _check_kind(planes: Sequence[Plane]) -> None:
    headers = [plane.header for plane in planes]
    classes = {text(header, "SOPClassUID") for header in headers}
    if any(header.startswith(_SECONDARY_CAPTURE) for header in classes):
        raise _Fault(Reason.SCREEN_SHOT, "holds secondary captures (screen shots), no CT slices")
    if modalities := sorted({text(header, "Modality") for header in headers} - {"CT"}):
        which = ", ".join(modalities) or "not given"
        raise _Fault(Reason.NOT_CT, f"is no CT: its modality is {which}")
    if classes - {*_CT_CLASSES}:
        raise _Fault(Reason.NOT_CT, "holds objects that are no CT images")
    for reason, words, what in (
        (Reason.LOCALIZER, _LOCALIZERS, "a localizer (scout view)"),
        (Reason.SCREEN_SHOT, _SCREENS, "a screen shot or a page of dose figures"),
        (Reason.PROJECTION, _PROJECTIONS, "a projection or rendering (MIP, VRT) of a CT"),
    ):
        hits = [plane for plane in planes if words.intersection(plane.image_type)]
        if len(hits) == len(planes):
            raise _Fault(reason, f"is {what}, no stack of CT slices")
        if hits:
            which = _instances(hits)
            raise _Fault(reason, f"holds {what} among its slices ({which}); take it out")
    if any((number(header, "SamplesPerPixel") or 1) != 1 for header in headers):
        raise _Fault(Reason.SCREEN_SHOT, "holds colour pictures, no CT slices")


def _check_objects(planes: Sequence[Plane]) -> None:
    header, *others = {id(plane.header): plane.header for plane in planes}.values()
    if not any(frame_count(item) > 1 for item in (header, *others)):
        return
    if others:
        raise _Fault(
            Reason.SEVERAL_OBJECTS,
            "holds several objects, some with many frames; give the object alone in a folder",
        )
    if text(header, "SOPClassUID") not in _ENHANCED or frame_count(header) != len(planes):
        raise _Fault(
            Reason.NO_GEOMETRY,
            f"is one object of {frame_count(header)} frames that says nothing of where each is",
        )


def _check_hounsfield(planes: Sequence[Plane]) -> None:
    interpretations = {text(plane.header, "PhotometricInterpretation") for plane in planes}
    if others := sorted(interpretations - {"", "MONOCHROME2"}):
        raise _Fault(
            Reason.NOT_HOUNSFIELD,
            f"is stored as {', '.join(others)}, of which decoders make other values than "
            "Hounsfield units; export it as MONOCHROME2",
        )
    if units := sorted({plane.unit for plane in planes} - {"HU"}):
        raise _Fault(
            Reason.NOT_HOUNSFIELD,
            f"is not in Hounsfield units but in {', '.join(units)}: a material map, no CT",
        )
    if any(not plane.slope or plane.intercept is None for plane in planes):
        raise _Fault(
            Reason.NOT_HOUNSFIELD,
            "does not say how stored values become Hounsfield units "
            "(RescaleSlope and RescaleIntercept)",
        )
    multi_frame = [plane for plane in planes if frame_count(plane.header) > 1]
    if len({(plane.slope, plane.intercept) for plane in multi_frame}) > 1:
        raise _Fault(
            Reason.NOT_HOUNSFIELD,
            "is one object whose frames turn stored values into Hounsfield units differently, "
            "which is not read; export it as single slices",
        )


def _check_pixels(planes: Sequence[Plane]) -> None:
    """Refuse pixels that are not as many as sizes and types need: decoders would guess."""
    wrong = []
    for plane in planes:
        sizes = pixel_bytes(plane.header)
        if sizes is not None and not sizes[1] <= sizes[0] <= sizes[1] + sizes[1] % 2:
            wrong.append((plane, *sizes))
    if wrong:
        _, stored, needed = wrong[0]
        raise _Fault(
            Reason.DAMAGED,
            f"has slices of {stored:,} bytes of pixels where Rows, Columns and BitsAllocated say "
            f"{needed:,}: {_instances([plane for plane, *_ in wrong])}; export it again",
        )


def _check_geometry(planes: Sequence[Plane]) -> None:
    if incomplete := lacking(planes):
        which = _instances(incomplete[1])
        raise _Fault(Reason.NO_GEOMETRY, f"has slices without a usable {incomplete[0]}: {which}")
    if len(planes) < MIN_SLICES:
        count = f"{len(planes)} slice{'s' if len(planes) > 1 else ''}"
        raise _Fault(Reason.TOO_FEW, f"has {count}; a volume has {MIN_SLICES} or more")


def _check_one_kind(planes: Sequence[Plane]) -> None:
    axes = np.array([plane.axes for plane in planes])
    if np.abs(axes - axes[0]).max() > SAME_DIRECTION:
        count = len(np.unique(np.round(axes, 3) + 0.0, axis=0))
        raise _Fault(Reason.MIXED, f"has planes of {max(2, count)} orientations")
    pixels = np.array([plane.pixel_mm for plane in planes])
    if np.abs(pixels - pixels[0]).max() > SAME_SPACING_MM:
        count = len(np.unique(pixels, axis=0))
        raise _Fault(Reason.MIXED, f"has slices of {count} pixel distances")
    sizes = sorted({f"{p.size[0]}×{p.size[1]}" for p in planes if p.size is not None})
    if len(sizes) > 1:
        raise _Fault(Reason.MIXED, f"has slices of different sizes: {_listed(sizes)}")
    frames = {text(plane.header, "FrameOfReferenceUID") for plane in planes}
    if len(frames) > 1:
        raise _Fault(Reason.MIXED, f"has slices of {len(frames)} frames of reference")


def _check_line(stack: Stacked) -> None:
    """Refuse slices that are not stacked along their normal, from first to last or in between."""
    planes, places, positions = stack.planes, stack.places, stack.positions
    direction, length = positions[-1] - positions[0], float(places[-1] - places[0])
    drift = float(np.linalg.norm(direction - length * stack.normal))
    most = SHEAR_PIXELS * min(planes[0].pixel_mm or (1.0, 1.0))
    if drift > most and length <= 0:
        raise _Fault(Reason.MIXED, "has slices side by side in one plane")
    if drift > most:
        degrees = np.degrees(np.arctan2(drift, length))
        raise _Fault(
            Reason.TILTED,
            f"was scanned with a tilted gantry: its slices are stacked {degrees:.1f} degrees off "
            "their normal; export it with the tilt corrected",
        )
    tilt = max(abs(number(plane.header, "GantryDetectorTilt") or 0.0) for plane in planes)
    lean = np.degrees(np.arccos(min(1.0, float(np.abs(stack.normal).max()))))
    corrected = any("DERIVED" in plane.image_type for plane in planes)
    if tilt > TILT_DEGREES and lean < TILT_DEGREES and not corrected:
        raise _Fault(
            Reason.TILTED,
            f"was scanned with the gantry tilted by {tilt:.1f} degrees, which its slice "
            "positions do not show; export it with the tilt corrected",
        )
    if length <= 0:
        return
    share = (places - places[0])[:, None] / length
    beside = positions - (positions[0] + share * direction)
    beside -= np.outer(beside @ stack.normal, stack.normal)
    off = np.linalg.norm(beside, axis=1)
    if (off > most).any():
        far = _instances([plane for plane, mm in zip(planes, off, strict=True) if mm > most])
        raise _Fault(
            Reason.MIXED,
            f"has slices beside the line of the others, up to {off.max():.1f} mm: {far}",
        )


def _check_uids(stack: Stacked) -> None:
    """Refuse instances of one UID at one place; copies have been left out before."""
    for (header, place), (other, next_place) in itertools.pairwise(
        (plane.header, along) for plane, along in zip(stack.planes, stack.places, strict=True)
    ):
        uid = text(header, "SOPInstanceUID")
        same = header is not other and uid and uid == text(other, "SOPInstanceUID")
        if same and next_place - place < SAME_PLACE_MM:
            raise _Fault(
                Reason.SHARED_UID,
                f"holds two slices at {place:.1f} mm that share a SOPInstanceUID ({uid}) and "
                "have different pixels; take out the one that is wrong, or export it again",
            )


def _check_extent(stack: Stacked) -> None:
    """Refuse more than scanners make or networks can take; before gaps are listed."""
    first, count = stack.planes[0], len(stack.planes)
    step = max(SAME_PLACE_MM, float(stack.places[-1] - stack.places[0]) / (count - 1))
    why = excess((*(first.size or (1, 1)), count), (*(first.pixel_mm or (1.0, 1.0)), step))
    if why is not None:
        raise _Fault(Reason.TOO_LARGE, f"cannot be taken: {why}")


def _check_steps(stack: Stacked) -> None:
    places, count = stack.places, len(stack.places)
    gaps = np.diff(places)
    if (repeated := int(np.count_nonzero(gaps < SAME_PLACE_MM))) or _interleaved(stack):
        numbers = sorted({plane.acquisition for plane in stack.planes if plane.acquisition})
        which = f" (acquisitions {_listed(numbers)})" if len(numbers) > 1 else ""
        raise _Fault(
            Reason.TWO_PHASES,
            f"holds {count} slices at {count - repeated} places: two phases or acquisitions in "
            f"one series{which}; export each as a series of its own",
        )
    step = float(np.median(gaps))
    missing = [
        f"{places[index] + part * gaps[index] / round(gaps[index] / step):.1f}"
        for index in np.flatnonzero(gaps >= MISSING_STEPS * step)
        for part in range(1, max(2, round(gaps[index] / step)))
    ]
    if missing:
        raise _Fault(
            Reason.MISSING_SLICE,
            f"lacks {len(missing)} slice{'s' if len(missing) > 1 else ''} at {_listed(missing)} "
            f"mm: its {count} slices are {step:g} mm apart and leave gaps; export it again",
        )
    off = np.abs(places - np.linspace(places[0], places[-1], count))
    if off.max() > UNEVEN_STEPS * gaps.mean():
        raise _Fault(
            Reason.UNEVEN,
            f"has slices {gaps.min():.2f} to {gaps.max():.2f} mm apart, most unevenly at "
            f"{places[int(off.argmax())]:.1f} mm; a volume needs even steps",
        )


def _interleaved(stack: Stacked) -> bool:
    """Return whether acquisitions that overlap were stacked at places that do not coincide."""
    kinds = np.array([plane.acquisition for plane in stack.planes])
    names = np.unique(kinds)
    if len(names) < 2 or len(names) > len(kinds) // MIN_SLICES:
        return False
    spans = sorted((here.min(), here.max()) for here in (stack.places[kinds == n] for n in names))
    gaps = np.diff(stack.places)
    uneven = np.ptp(gaps) > UNEVEN_STEPS * float(gaps.mean())
    overlaps = any(b[0] < a[1] for a, b in itertools.pairwise(spans))
    return bool(uneven and overlaps)


def _instances(planes: Sequence[Plane]) -> str:
    names = sorted({text(p.header, "InstanceNumber") or "without number" for p in planes}, key=_key)
    return f"instance{'s' if len(names) > 1 else ''} {_listed(names)}"


def _key(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (1 << 31, name)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
