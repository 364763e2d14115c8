"""What can be wrong with a folder of DICOM files as a whole."""

from __future__ import annotations

from atlas8k.errors import VolumeError


class NoVolumeError(VolumeError):
    """There is no DICOM CT volume; the sentence says what there is."""


class SeriesRefusedError(NoVolumeError):
    """The series asked for, or the only ones there are, are no CT volumes."""


class SeveralVolumesError(VolumeError):
    """There are several CT volumes and none was named."""
