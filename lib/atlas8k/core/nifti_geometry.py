"""Read the geometry of a NIfTI header, and find out whether it has more than one.

A header has two places for it, sform and qform, each with a code; code 0 means "not in use".
nibabel reads the sform where both are in use. ITK, and with it 3D Slicer, reads the sform
where its code is 1 and the qform where it is 2 or more, and opens a file with a sheared sform
by its qform alone, or not at all (``itkNiftiImageIO.cxx``, ITK 5.4; measured). So one file can
have two geometries. Here the sform is read, as nibabel does; the geometry that another program
may have read is in :attr:`~atlas8k.core.grid.Grid.forms` and named in a remark.

What the header lacks is stated: ``RAS``, ``LPS`` and so on are the directions of a file's
axes, ``sform`` and ``qform`` choose one of the two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GeometryError, NotFiniteError
from atlas8k.core.grid import SERVED, Form, Grid, corner_gap, corners
from atlas8k.core.remarks import Level, Remark

DUST_VOXELS = 0.05
"""Two forms that differ by no more than this at every corner are one."""
SKEW = 5e-5
"""Largest off-diagonal of the axes' products that ITK takes for orthonormal is 1e-4; half."""
LIKELY_MM = (0.02, 100.0)
"""Sizes that a voxel of a CT or of a label of one can have."""

Affine = npt.NDArray[np.float64]
Shape = tuple[int, int, int]

_UNITS = {1: ("metres", 1000.0), 2: ("mm", 1.0), 3: ("micrometres", 0.001)}
"""NIfTI codes of units of space; any other code means none, which everybody takes for mm."""
_NIFTI2 = 540
"""Size of its header."""
_AXES = ("RL", "AP", "SI")
FORMS = ("sform", "qform")
SAY_HOW = (
    "give the direction of its axes with --orientation RAS (LPS, LAS, …) of predict, evaluate, "
    "cross, quality, train or labels import, for a studies folder in its orientation.yaml, or "
    "write it into the header"
)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The geometry read from a header.

    Attributes
    ----------
    grid
        Position of the voxels; its `forms` are other geometries a program may have read.
    read_by
        ``"sform"``, ``"qform"`` or ``"stated"``.
    plain
        Every program reads `grid` from the file as it is.
    remarks
        Remarks for people.
    """

    grid: Grid
    read_by: str
    plain: bool
    remarks: tuple[Remark, ...] = ()


_SINGLE = float(np.finfo(np.float32).eps)


class _Read(NamedTuple):
    """One of a header's two forms: its code, its affine or why it has none, and whether
    anything was written there at all.
    """

    name: str
    code: int
    affine: Affine | None
    fault: str
    written: bool

    @property
    def usable(self) -> bool:
        return self.code > 0 and self.affine is not None


def check_stated(text: str) -> str:
    """Return a stated geometry in its standard form: ``"RAS"``, ``"LPS"``, …, or a form's name.

    Raises
    ------
    ValueError
        It is none.
    """
    if text.lower() in FORMS:
        return text.lower()
    codes = text.upper()
    if len(codes) != 3 or any(sum(code in axis for code in codes) != 1 for axis in _AXES):
        raise ValueError(
            f"orientation {text!r}: three letters, one of R/L, one of A/P and one of S/I, such as "
            "RAS or LPS, in the order of the file's axes; or sform or qform"
        )
    return codes


def find_geometry(
    header: Any, shape: Shape, path: str | Path, stated: str | None = None
) -> Geometry:
    """Decide where the voxels of a NIfTI or Analyze file lie.

    Parameters
    ----------
    header
        nibabel's NIfTI header as it lies in the file, unchecked: nibabel's checks replace a
        voxel size of 0 by 1 without a word. An Analyze header has no forms.
    shape
        Voxels along the file's axes.
    stated
        Orientation stated beside the file, see :func:`check_stated`.

    Raises
    ------
    GeometryError
        The header has no geometry and none is stated; the two contradict each other; the
        voxels have an impossible size.
    NotFiniteError
        The header's affine is not finite or is singular.
    """
    if "srow_x" not in header:
        return _stated(header, shape, path, stated)
    sform, qform = _sform(header), _qform(header)
    if stated in FORMS:
        sform, qform = _as_stated(stated, sform, qform, path)
    chosen = sform if sform.usable and stated != "qform" else qform
    if not chosen.usable:
        if sform.code == 0 and qform.code == 0:
            return _stated(header, shape, path, stated, sform, qform)
        faults = "; ".join(f"{form.name}: {form.fault}" for form in (sform, qform) if form.code > 0)
        raise NotFiniteError(path, f"its affine cannot be read ({faults}); fix the header")
    assert chosen.affine is not None
    other = qform if chosen is sform else sform
    factor, literal, unit = _unit(header, chosen.affine, path)
    affine = _scaled(chosen.affine, factor)
    forms = _Forms(affine, shape, chosen.name)
    if header.sizeof_hdr == _NIFTI2:
        text = "NIfTI-2, which 3D Slicer does not open; served as NIfTI-1"
        forms.add(None, Remark("nifti2", text, "note"))
    if unit is not None:
        forms.add(Form("header's unit", _scaled(chosen.affine, literal)), unit)
    served = without_shear(affine)
    shear = corner_gap(affine, served, shape)
    if shear > DUST_VOXELS:
        forms.add(Form(SERVED, served), _shear_remark(affine, served, shape, chosen.name))
    _compare(forms, other, factor, stated)
    _voxel_size(forms, header, factor, qform)
    if stated is not None and stated not in FORMS and stated != forms.grid.orientation:
        raise GeometryError(
            path,
            f"{stated} is stated, but its {chosen.name} says {forms.grid.orientation}; take the "
            "statement back, or correct the header",
        )
    # ITK opens a form with the least shear by the other form, where there is one.
    openable = _skew(affine) <= SKEW or (other.usable and chosen is sform)
    plain = forms.plain and openable and stated not in FORMS
    return Geometry(forms.grid, chosen.name, plain, tuple(forms.remarks))


class _Forms:
    """Collects a grid's other forms, and the remarks about them."""

    def __init__(self, affine: Affine, shape: Shape, name: str) -> None:
        self.affine, self.shape, self.name = affine, shape, name
        self.forms: list[Form] = []
        self.remarks: list[Remark] = []
        self.plain = True

    def add(self, form: Form | None, remark: Remark) -> None:
        """Add a remark on something that programs may read in different ways."""
        if form is not None:
            self.forms.append(form)
        self.remarks.append(remark)
        self.plain = False

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, self.affine, tuple(self.forms))


def _compare(forms: _Forms, other: _Read, factor: float, stated: str | None) -> None:
    """Remark on the form that was not read, where it differs."""
    if other.code > 0 and other.affine is None:
        text = f"its {other.name} cannot be read ({other.fault}); its {forms.name} is used"
        forms.add(None, Remark("broken_form", text))
        return
    if other.affine is None or not other.written:
        return
    affine = _scaled(other.affine, factor)
    gap = corner_gap(forms.affine, affine, forms.shape)
    if gap <= DUST_VOXELS:
        return
    mm = _gap_mm(forms.affine, affine, forms.shape)
    figures = {
        forms.name: forms.affine.tolist(),
        other.name: affine.tolist(),
        "voxels": round(gap, 3),
        "mm": round(mm, 3),
    }
    both = (
        f"{forms.name}: {in_words(forms.affine)}; {other.name}: {in_words(affine)}; "
        f"up to {mm:.3g} mm apart"
    )
    if other.code == 0:
        text = (
            f"its {other.name} is marked as not in use (code 0) and says something else than its "
            f"{forms.name}, which is used ({both})"
        )
        forms.add(None, Remark("unused_form", text, figures=figures))
        return
    known = [corner_gap(affine, form.affine, forms.shape) for form in forms.forms]
    if min(known, default=np.inf) <= DUST_VOXELS:
        return  # the sheared form without its shear: it is served so
    if _rounded(forms.affine, affine):
        forms.forms.append(Form(other.name, affine))  # ITK may write labels with it
        return
    why = (
        "as stated"
        if stated == forms.name
        else "state qform in orientation.yaml or with --orientation where that is the right one"
    )
    text = (
        f"two geometries in one file ({both}); its {forms.name} is used"
        f"{', ' if stated == forms.name else '; '}{why}. It is served with this one in both "
        "places; labels drawn on either are put on the same voxels"
    )
    level: Level = "note" if stated == forms.name else "warning"
    forms.add(Form(other.name, affine), Remark("two_geometries", text, level, figures))


def _rounded(first_affine: Affine, second_affine: Affine) -> bool:
    """Return whether two geometries are one, but for a quaternion's single precision.

    NIfTI stores three of a quaternion's four numbers and the fourth follows from them
    (method 2 of the standard's nifti1.h). Near half a turn it is the root of a difference
    of nearly equal numbers, so that rounding turns the volume by up to 0.05 degrees.
    """
    from nibabel.quaternions import mat2quat

    sizes = [np.linalg.norm(affine[:3, :3], axis=0) for affine in (first_affine, second_affine)]
    flips = [np.sign(np.linalg.det(affine[:3, :3])) for affine in (first_affine, second_affine)]
    if not (
        np.allclose(sizes[0], sizes[1], rtol=1e-5)
        and np.allclose(first_affine[:3, 3], second_affine[:3, 3], rtol=1e-6, atol=1e-3)
        and flips[0] == flips[1]
    ):
        return False
    first, second = (
        mat2quat(affine[:3, :3] / size * [1, 1, flip])
        for affine, size, flip in zip((first_affine, second_affine), sizes, flips, strict=True)
    )
    if first[1:] @ second[1:] < 0:  # the same turn, its quaternion with the other sign
        second = -second
    same = np.abs(first[1:] - second[1:]).max() <= 4 * _SINGLE
    return bool(same and abs(first[0] ** 2 - second[0] ** 2) <= 8 * _SINGLE)


def _voxel_size(forms: _Forms, header: Any, factor: float, qform: _Read) -> None:
    """Remark on a voxel size in the header that differs from that of the sform.

    ITK takes the directions from the sform and the size from here (measured).
    """
    if qform.code > 0:
        return  # the size is part of the qform
    size = np.asarray(header["pixdim"], dtype=np.float64)[1:4] * factor
    own = np.linalg.norm(forms.affine[:3, :3], axis=0)
    with np.errstate(invalid="ignore"):
        off = np.abs(size / own - 1) * (np.asarray(forms.shape) - 1)
    if (off <= DUST_VOXELS).all():
        return
    form = None
    if (size > 0).all():
        form = Form("voxel size", forms.affine @ np.diag([*(size / own), 1.0]))
    text = (
        f"its voxel size (pixdim) is {_mm(size)}, its {forms.name} says {_mm(own)}, which is used"
    )
    stated_size = [
        value if np.isfinite(value) else None for value in size.tolist()
    ]  # JSON has no NaN
    figures = {"pixdim_mm": stated_size, f"{forms.name}_mm": own.tolist()}
    forms.add(form, Remark("voxel_size", text, figures=figures))


def _shear_remark(affine: Affine, served: Affine, shape: Shape, name: str) -> Remark:
    mm = _gap_mm(affine, served, shape)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    degrees = max(
        float(np.degrees(np.arcsin(min(1.0, abs(axes[:, i] @ axes[:, j])))))
        for i, j in itertools.combinations(range(3), 2)
    )
    text = (
        f"its {name} is sheared by {degrees:.1f} degrees ({in_words(affine)}), as after a gantry "
        f"tilt; that is where the voxels truly lie. 3D Slicer does not read it so: it is served "
        f"without the shear ({in_words(served)}), the same voxels, up to {mm:.3g} mm from their "
        "true place; labels come back on the CT's own grid"
    )
    figures = {"degrees": round(degrees, 3), "mm": round(mm, 3), name: affine.tolist()}
    return Remark("sheared", text, figures=figures)


def _sform(header: Any) -> _Read:
    rows = np.stack([np.asarray(header[f"srow_{a}"], dtype=np.float64) for a in "xyz"])
    affine = np.vstack([rows, [0.0, 0.0, 0.0, 1.0]])
    fault = ""
    if not np.isfinite(affine).all():
        fault = "it holds NaN or infinity"
    elif abs(np.linalg.det(affine[:3, :3])) < 1e-15:
        fault = "it is singular"
    return _Read(
        "sform", int(header["sform_code"]), None if fault else affine, fault, bool(rows.any())
    )


def _qform(header: Any) -> _Read:
    """Return the qform by the NIfTI standard's method 2; pixdim[0] of 0 means 1 there."""
    from nibabel.quaternions import fillpositive, quat2mat

    pixdim = np.asarray(header["pixdim"], dtype=np.float64)[:4]
    quaternion = np.array([float(header[f"quatern_{a}"]) for a in "bcd"])
    origin = np.array([float(header[f"qoffset_{a}"]) for a in "xyz"])
    written = bool(quaternion.any() or origin.any())
    code, affine, fault = int(header["qform_code"]), np.eye(4), ""
    if not np.isfinite([*pixdim[1:], *quaternion, *origin]).all():
        fault = "it holds NaN or infinity"
    elif (pixdim[1:] <= 0).any():
        fault = f"its voxel size is {_mm(pixdim[1:])}"
    elif quaternion @ quaternion > 1 + 1e-5:
        fault = "its quaternion is none"
    else:
        length = max(1.0, float(np.linalg.norm(quaternion)))
        rotation = quat2mat(fillpositive(quaternion / length))
        affine[:3, :3] = rotation * pixdim[1:] * [1, 1, -1 if pixdim[0] < 0 else 1]
        affine[:3, 3] = origin
    return _Read("qform", code, None if fault else affine, fault, written)


def _as_stated(stated: str, sform: _Read, qform: _Read, path: str | Path) -> tuple[_Read, _Read]:
    """Return both forms, the stated one in use whatever its code is."""
    meant = sform if stated == "sform" else qform
    if meant.affine is None or not (meant.written or meant.code > 0):
        why = meant.fault or "nothing is written there"
        raise GeometryError(path, f"{stated} is stated, but it cannot be used: {why}")
    used = meant._replace(code=max(1, meant.code))
    return (used, qform) if stated == "sform" else (sform, used)


def _stated(
    header: Any, shape: Shape, path: str | Path, stated: str | None, *unused: _Read
) -> Geometry:
    """Return a geometry for a file that has none: stated axes, centred on the world's origin."""
    size = np.asarray(header["pixdim"], dtype=np.float64)[1:4]
    if stated is None or stated in FORMS:
        hints = "".join(
            f"; its {form.name}, marked as not in use, says {in_words(form.affine)}: state "
            f"{form.name} if that is right"
            for form in unused
            if form.written and form.affine is not None
        )
        raise GeometryError(
            path,
            "the header does not say where right, front and head are (no sform, no qform): "
            f"{SAY_HOW}{hints}",
        )
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise GeometryError(path, f"its voxel size is {_mm(size)}; correct the header")
    factor = _unit(header, np.diag([*size, 1.0]), path)[0]
    affine = np.zeros((4, 4))
    for axis, code in enumerate(stated):
        world = next(i for i, pair in enumerate(_AXES) if code in pair)
        affine[world, axis] = size[axis] * factor * (1 if code in "RAS" else -1)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    affine[3, 3] = 1
    text = f"its header says no orientation; {stated} is stated and used ({in_words(affine)})"
    # What ITK and nibabel make of a file without geometry (measured).
    itk = np.diag([*(size * factor * [-1, -1, 1]), 1.0])
    nibabel = np.diag([*(size * factor * [-1, 1, 1]), 1.0])
    nibabel[:3, 3] = -nibabel[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    forms = (Form("no geometry (ITK)", itk), Form("no geometry (nibabel)", nibabel))
    remark = Remark("stated_orientation", text, "note", {"orientation": stated})
    return Geometry(Grid(shape, affine, forms), "stated", False, (remark,))


def _unit(header: Any, affine: Affine, path: str | Path) -> tuple[float, float, Remark | None]:
    """Return the factor to mm, that of the header's unit, and a remark where that is not 1.

    A unit can be a slip: where the voxel size is a CT's in one reading only, that one counts.
    """
    code = int(header["xyzt_units"]) & 7 if "xyzt_units" in header else 0
    name, factor = _UNITS.get(code, ("mm", 1.0))
    size = np.linalg.norm(affine[:3, :3], axis=0)

    def likely(scale: float) -> bool:
        low, high = LIKELY_MM
        return bool((size * scale >= low).all() and (size * scale <= high).all())

    if factor == 1.0:
        if not likely(1.0):
            raise GeometryError(
                path,
                f"voxels of {_mm(size)} are no CT's; correct voxel size or units in the header",
            )
        return 1.0, 1.0, None
    if likely(factor) == likely(1.0):
        raise GeometryError(
            path,
            f"voxels of {_numbers(size)} {name} are no CT's, nor of so many mm; correct the header",
        )
    used = factor if likely(factor) else 1.0
    text = (
        f"its header is in {name}; read as such, voxels are of {_mm(size * factor)}"
        if used == factor
        else f"its header says {name}, which would be voxels of {_mm(size * factor)}; read as mm"
    )
    return used, factor, Remark("units", text, figures={"unit": name, "factor_to_mm": used})


def without_shear(affine: Affine) -> Affine:
    """Return the affine with the nearest orthogonal axes; first voxel and voxel sizes stay.

    As nibabel and ITK make a qform: the orthogonal factor of the polar decomposition of the
    directions.
    """
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    u, _, vt = np.linalg.svd(affine[:3, :3] / zooms)
    out = affine.copy()
    out[:3, :3] = (u @ vt) * zooms
    return out


def in_words(affine: Affine) -> str:
    """Return an affine in words: axes, voxel size and first voxel, for people."""
    from nibabel.orientations import aff2axcodes

    first = ", ".join(f"{value:.4g}" for value in affine[:3, 3])
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    return f"axes {''.join(aff2axcodes(affine))}, {_mm(zooms)}, first voxel at ({first}) mm RAS"


def _skew(affine: Affine) -> float:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def _gap_mm(affine: Affine, other: Affine, shape: Shape) -> float:
    return float(np.linalg.norm(((affine - other) @ corners(shape))[:3], axis=0).max())


def _scaled(affine: Affine, factor: float) -> Affine:
    return np.diag([factor, factor, factor, 1.0]) @ affine


def _numbers(size: npt.NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.4g}" for value in size)


def _mm(size: npt.NDArray[np.float64]) -> str:
    return f"{_numbers(size)} mm"


def every_form(grid: Grid) -> Iterator[Form]:
    """Yield the grid's own affine first, named ``""``, then its other forms."""
    yield Form("", grid.affine)
    yield from grid.forms
