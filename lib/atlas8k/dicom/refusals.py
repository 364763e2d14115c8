"""Why a series is no CT volume.

The rules are tried in the order in which a person would look: what kind of image it is,
whether it says where it is, whether its planes are of one kind, and whether they are
evenly stacked. The first that fails is the reason given.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from atlas8k.dicom.planes import Plane, frame_count, number, pixel_bytes, text

MIN_SLICES = 3
"""With fewer, nothing shows whether they are evenly stacked."""

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


class Reason(StrEnum):
    """Why a series is no CT volume."""

    NOT_CT = "not_ct"
    LOCALIZER = "localizer"
    SCREEN_SHOT = "screen_shot"
    PROJECTION = "projection"
    NOT_HOUNSFIELD = "not_hounsfield"
    DAMAGED = "damaged"
    NO_GEOMETRY = "no_geometry"
    SEVERAL_OBJECTS = "several_objects"
    TOO_FEW = "too_few"
    MIXED = "mixed"
    TILTED = "tilted"
    SHARED_UID = "shared_uid"
    TWO_PHASES = "two_phases"
    MISSING_SLICE = "missing_slice"
    UNEVEN = "uneven"


@dataclass(frozen=True)
class Refusal:
    """Why a series is no CT volume: a reason for programs, a sentence for people."""

    reason: Reason
    message: str


Finding = tuple[Reason, str] | None


def find_fault(planes: Sequence[Plane]) -> Finding:
    """The first thing that keeps these planes from being one CT volume.

    Parameters
    ----------
    planes
        Of one series, at least one, in any order.

    Returns
    -------
    tuple or None
        Reason, and the rest of a sentence that begins with the name of the series.
    """
    rules = (
        *(_kind, _objects, _hounsfield, _pixels, _geometry, _count, _one_kind, _tilt, _line),
        *(_uids, _steps),
    )
    for rule in rules:
        if (finding := rule(planes)) is not None:
            return finding
    return None


def along(planes: Sequence[Plane]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Normal of the first plane, and the planes' places along it, mm.

    Every plane has a position and axes.
    """
    axes = np.array(planes[0].axes)
    normal = np.cross(axes[0], axes[1])
    return normal, np.array([plane.position for plane in planes], dtype=np.float64) @ normal


def _kind(planes: Sequence[Plane]) -> Finding:
    headers = [plane.header for plane in planes]
    modalities = sorted({text(one, "Modality") for one in headers} - {"CT"})
    if any(text(one, "SOPClassUID").startswith(_SECONDARY_CAPTURE) for one in headers):
        return Reason.SCREEN_SHOT, "holds secondary captures (screen shots), no CT slices"
    if modalities:
        return Reason.NOT_CT, f"is no CT: its modality is {', '.join(modalities) or 'not given'}"
    others = {word for one in headers if (word := text(one, "SOPClassUID")) not in _CT_CLASSES}
    if others:
        return Reason.NOT_CT, "holds objects that are no CT images"
    for reason, words, what in (
        (Reason.LOCALIZER, _LOCALIZERS, "a localizer (scout view)"),
        (Reason.SCREEN_SHOT, _SCREENS, "a screen shot or a page of dose figures"),
        (Reason.PROJECTION, _PROJECTIONS, "a projection or rendering (MIP, VRT) of a CT"),
    ):
        hits = [plane for plane in planes if words.intersection(plane.image_type)]
        if len(hits) == len(planes):
            return reason, f"is {what}, no stack of CT slices"
        if hits:
            which = _instances(hits)
            return reason, f"holds {what} among its slices ({which}); take it out"
    colour = [one for one in headers if (number(one, "SamplesPerPixel") or 1) != 1]
    if colour:
        return Reason.SCREEN_SHOT, "holds colour pictures, no CT slices"
    return None


def _hounsfield(planes: Sequence[Plane]) -> Finding:
    shown = {text(plane.header, "PhotometricInterpretation") for plane in planes}
    if others := sorted(shown - {"", "MONOCHROME2"}):
        return (
            Reason.NOT_HOUNSFIELD,
            f"is stored as {', '.join(others)}, of which decoders make other values than "
            "Hounsfield units; export it as MONOCHROME2",
        )
    units = sorted({plane.unit for plane in planes} - {"HU"})
    if units:
        return (
            Reason.NOT_HOUNSFIELD,
            f"is not in Hounsfield units but in {', '.join(units)}: a material map, no CT",
        )
    if any(not plane.slope or plane.intercept is None for plane in planes):
        return (
            Reason.NOT_HOUNSFIELD,
            "does not say how stored values become Hounsfield units "
            "(RescaleSlope and RescaleIntercept)",
        )
    many = [plane for plane in planes if frame_count(plane.header) > 1]
    if len({(plane.slope, plane.intercept) for plane in many}) > 1:
        return (
            Reason.NOT_HOUNSFIELD,
            "is one object whose frames turn stored values into Hounsfield units differently, "
            "which is not read; export it as single slices",
        )
    return None


def _pixels(planes: Sequence[Plane]) -> Finding:
    """Pixels that are not as many as sizes and types say are read by decoders as best they can."""
    wrong = []
    for plane in planes:
        found = pixel_bytes(plane.header)
        if found is not None and not found[1] <= found[0] <= found[1] + found[1] % 2:
            wrong.append((plane, *found))
    if not wrong:
        return None
    which, (_, there, said) = _instances([plane for plane, *_ in wrong]), wrong[0]
    return (
        Reason.DAMAGED,
        f"has slices of {there:,} bytes of pixels where Rows, Columns and BitsAllocated say "
        f"{said:,}: {which}; export it again",
    )


def _geometry(planes: Sequence[Plane]) -> Finding:
    for what, lacking in (
        ("position (ImagePositionPatient)", [p for p in planes if p.position is None]),
        ("orientation (ImageOrientationPatient)", [p for p in planes if p.axes is None]),
        ("pixel distances (PixelSpacing)", [p for p in planes if p.pixel_mm is None]),
        ("size (Rows, Columns)", [p for p in planes if p.size is None]),
    ):
        if lacking:
            return Reason.NO_GEOMETRY, f"has slices without a usable {what}: {_instances(lacking)}"
    return None


def _objects(planes: Sequence[Plane]) -> Finding:
    many = {id(plane.header) for plane in planes if frame_count(plane.header) > 1}
    if not many:
        return None
    if len({id(plane.header) for plane in planes}) > 1:
        return (
            Reason.SEVERAL_OBJECTS,
            "holds several objects, some with many frames; give the object alone in a folder",
        )
    header = planes[0].header
    if text(header, "SOPClassUID") not in _ENHANCED or frame_count(header) != len(planes):
        return (
            Reason.NO_GEOMETRY,
            f"is one object of {frame_count(header)} frames that says nothing of where each is",
        )
    return None


def _count(planes: Sequence[Plane]) -> Finding:
    if len(planes) >= MIN_SLICES:
        return None
    return (
        Reason.TOO_FEW,
        f"has {len(planes)} slice{'s' if len(planes) > 1 else ''}; a volume has {MIN_SLICES} "
        "or more",
    )


def _one_kind(planes: Sequence[Plane]) -> Finding:
    axes = np.array([plane.axes for plane in planes])
    if np.abs(axes - axes[0]).max() > SAME_DIRECTION:
        return Reason.MIXED, f"has planes of {_kinds(planes, _direction)} orientations"
    pixels = np.array([plane.pixel_mm for plane in planes])
    if np.abs(pixels - pixels[0]).max() > SAME_SPACING_MM:
        return Reason.MIXED, f"has slices of {_kinds(planes, lambda p: p.pixel_mm)} pixel distances"
    if len({plane.size for plane in planes}) > 1:
        sizes = sorted({f"{p.size[0]}×{p.size[1]}" for p in planes if p.size is not None})
        return Reason.MIXED, f"has slices of different sizes: {_listed(sizes)}"
    frames = {text(plane.header, "FrameOfReferenceUID") for plane in planes}
    if len(frames) > 1:
        return Reason.MIXED, f"has slices of {len(frames)} frames of reference"
    return None


def _tilt(planes: Sequence[Plane]) -> Finding:
    normal, places = along(planes)
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    order = np.argsort(places, kind="stable")
    way = positions[order[-1]] - positions[order[0]]
    length = float(places.max() - places.min())
    drift = float(np.linalg.norm(way - length * normal))
    pixel = min(planes[0].pixel_mm or (1.0, 1.0))
    if drift > SHEAR_PIXELS * pixel and length <= 0:
        return Reason.MIXED, "has slices side by side in one plane"
    if drift > SHEAR_PIXELS * pixel:
        degrees = np.degrees(np.arctan2(drift, length))
        return (
            Reason.TILTED,
            f"was scanned with a tilted gantry: its slices are stacked {degrees:.1f} degrees off "
            "their normal; export it with the tilt corrected",
        )
    said = max((abs(number(p.header, "GantryDetectorTilt") or 0.0) for p in planes), default=0.0)
    lean = np.degrees(np.arccos(min(1.0, float(np.abs(normal).max()))))
    corrected = any("DERIVED" in plane.image_type for plane in planes)
    if said > TILT_DEGREES and lean < TILT_DEGREES and not corrected:
        return (
            Reason.TILTED,
            f"was scanned with the gantry tilted by {said:.1f} degrees, which its slice "
            "positions do not show; export it with the tilt corrected",
        )
    return None


def _line(planes: Sequence[Plane]) -> Finding:
    """Slices beside the line from the first to the last."""
    normal, places = along(planes)
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    first, last = positions[int(places.argmin())], positions[int(places.argmax())]
    length = float(np.ptp(places))
    if length <= 0:
        return None
    share = (places - places.min())[:, None] / length
    beside = positions - (first + share * (last - first))
    beside -= np.outer(beside @ normal, normal)
    off = np.linalg.norm(beside, axis=1)
    far = [plane for plane, mm in zip(planes, off, strict=True) if mm > _beside(plane)]
    if not far:
        return None
    return (
        Reason.MIXED,
        f"has slices beside the line of the others, up to {off.max():.1f} mm: {_instances(far)}",
    )


def _beside(plane: Plane) -> float:
    return SHEAR_PIXELS * min(plane.pixel_mm or (1.0, 1.0))


def _uids(planes: Sequence[Plane]) -> Finding:
    """Instances of one UID at one place are no copies: those have been left out."""
    places = along(planes)[1]
    order = np.argsort(places, kind="stable")
    for a, b in itertools.pairwise(order):
        one, other = planes[a].header, planes[b].header
        near = places[b] - places[a] < SAME_PLACE_MM
        uid = text(one, "SOPInstanceUID")
        if near and uid and one is not other and uid == text(other, "SOPInstanceUID"):
            return (
                Reason.SHARED_UID,
                f"holds two slices at {places[a]:.1f} mm that share a SOPInstanceUID ({uid}) and "
                "have different pixels; take out the one that is wrong, or export it again",
            )
    return None


def _steps(planes: Sequence[Plane]) -> Finding:
    places = np.sort(along(planes)[1])
    gaps = np.diff(places)
    if (repeated := int(np.count_nonzero(gaps < SAME_PLACE_MM))) or _interleaved(planes):
        count = len(places) - repeated
        numbers = sorted({plane.acquisition for plane in planes if plane.acquisition})
        which = f" (acquisitions {_listed(numbers)})" if len(numbers) > 1 else ""
        return (
            Reason.TWO_PHASES,
            f"holds {len(places)} slices at {count} places: two phases or acquisitions in one "
            f"series{which}; export each as a series of its own",
        )
    step = float(np.median(gaps))
    wide = np.flatnonzero(gaps >= MISSING_STEPS * step)
    if wide.size:
        lost = [
            f"{places[index] + part * gaps[index] / round(gaps[index] / step):.1f}"
            for index in wide
            for part in range(1, max(2, round(gaps[index] / step)))
        ]
        return (
            Reason.MISSING_SLICE,
            f"lacks {len(lost)} slice{'s' if len(lost) > 1 else ''} at {_listed(lost)} mm: its "
            f"{len(places)} slices are {step:g} mm apart and leave gaps; export it again",
        )
    even = np.linspace(places[0], places[-1], len(places))
    off = np.abs(places - even)
    mean = (places[-1] - places[0]) / (len(places) - 1)
    if off.max() > UNEVEN_STEPS * mean:
        return (
            Reason.UNEVEN,
            f"has slices {gaps.min():.2f} to {gaps.max():.2f} mm apart, most unevenly at "
            f"{places[int(off.argmax())]:.1f} mm; a volume needs even steps",
        )
    return None


def _interleaved(planes: Sequence[Plane]) -> bool:
    """Whether acquisitions that overlap were stacked at places that do not coincide."""
    places = along(planes)[1]
    kinds = np.array([plane.acquisition for plane in planes])
    names = np.unique(kinds)
    if len(names) < 2 or len(names) > len(planes) // MIN_SLICES:
        return False
    spans = sorted((places[kinds == name].min(), places[kinds == name].max()) for name in names)
    gaps = np.diff(np.sort(places))
    uneven = np.ptp(gaps) > UNEVEN_STEPS * float(gaps.mean())
    overlaps = any(b[0] < a[1] for a, b in itertools.pairwise(spans))
    return bool(uneven and overlaps)


def _direction(plane: Plane) -> tuple[float, ...]:
    return () if plane.axes is None else tuple(np.round(plane.axes.ravel(), 3) + 0.0)


def _kinds(planes: Sequence[Plane], kind: Callable[[Plane], object]) -> int:
    return max(2, len(Counter(kind(plane) for plane in planes)))


def _instances(planes: Sequence[Plane]) -> str:
    names = sorted({text(p.header, "InstanceNumber") or "without number" for p in planes}, key=_key)
    return f"instance{'s' if len(names) > 1 else ''} {_listed(names)}"


def _key(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (1 << 31, name)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
