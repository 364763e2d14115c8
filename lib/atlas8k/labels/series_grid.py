"""Where the voxels of a DICOM CT series are, from the headers of its instances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from atlas8k.errors import GridMismatchError, UnreadableVolumeError
from atlas8k.grid import Grid

_TOLERANCE = 0.1
"""Distance of a slice from where it should be, in slice distances."""


def grid_of_headers(headers: Sequence[pydicom.Dataset], name: str | Path) -> Grid:
    """Grid of a series: axes (columns, rows, slices), slices along the normal.

    Parameters
    ----------
    headers
        Of every instance, in any order.
    name
        What messages call it.

    Raises
    ------
    UnreadableVolumeError
        Fewer than two instances, or some lack position, orientation or spacing.
    GridMismatchError
        Instances of more than one series or geometry; tilted, missing or doubled slices.
    """
    if len(headers) < 2:
        raise UnreadableVolumeError(name, f"a series of {len(headers)} instances is no volume")
    try:
        uids = {str(one.SeriesInstanceUID) for one in headers}
        planes = np.array([_plane(one) for one in headers], dtype=np.float64)
        positions = np.array([one.ImagePositionPatient for one in headers], dtype=np.float64)
    except (AttributeError, TypeError, ValueError) as err:
        raise UnreadableVolumeError(name, f"its series has no position in space ({err})") from err
    if len(uids) > 1 or np.ptp(planes, axis=0).max() > 1e-3:
        raise GridMismatchError(name, "the instances are not of one series and one geometry")
    across, down = planes[0, :3], planes[0, 3:6]
    row_mm, column_mm, rows, columns = planes[0, 6:]
    normal = np.cross(across, down)
    order = np.argsort(positions @ normal)
    positions = positions[order]
    step = float((positions[-1] - positions[0]) @ normal) / (len(headers) - 1)
    even = positions[0] + np.arange(len(headers))[:, None] * step * normal
    if not step > 0 or np.linalg.norm(positions - even, axis=1).max() > _TOLERANCE * step:
        raise GridMismatchError(name, "its series has tilted, missing or doubled slices")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = across * column_mm, down * row_mm, normal * step
    lps[:3, 3] = positions[0]
    shape = (int(columns), int(rows), len(headers))
    return Grid(shape, np.diag([-1.0, -1, 1, 1]) @ lps)


def _plane(header: pydicom.Dataset) -> list[Any]:
    return [
        *header.ImageOrientationPatient,
        *header.PixelSpacing,
        header.Rows,
        header.Columns,
    ]
