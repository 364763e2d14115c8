"""Read and write DICOM series that are CT volumes, and judge which series are.

A series is judged by its headers alone (:func:`inspect`), whether they come from files or
from an archive; what is no CT volume is refused with a reason (:class:`Reason`) and a
sentence that names the series and no patient. :func:`read_volume` reads one from a folder
onto the same :class:`~atlas8k.core.grid.Volume` that a NIfTI file gives, :func:`write_series`
writes one.
"""

from atlas8k.formats.dicom.read import (
    choose,
    is_dicom,
    other_series,
    read_headers,
    read_series,
    read_volume,
)
from atlas8k.formats.dicom.refusals import (
    NoVolumeError,
    Reason,
    SeriesRefusedError,
    SeveralVolumesError,
)
from atlas8k.formats.dicom.series import Series, inspect
from atlas8k.formats.dicom.write import series_datasets, write_series

__all__ = [
    "NoVolumeError",
    "Reason",
    "Series",
    "SeriesRefusedError",
    "SeveralVolumesError",
    "choose",
    "inspect",
    "is_dicom",
    "other_series",
    "read_headers",
    "read_series",
    "read_volume",
    "series_datasets",
    "write_series",
]
