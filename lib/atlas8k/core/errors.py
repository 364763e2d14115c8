"""Typed errors: each names the file or volume, what is wrong, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class Atlas8kError(Exception):
    """Base of every error this package raises on purpose."""


class FileError(Atlas8kError, ValueError):
    """A file, or an array in its place, cannot be used.

    Parameters
    ----------
    path
        The file, or a description of the array where there is no file.
    reason
        What is wrong and what to do about it, one sentence.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # The default reduction would replay the formatted message as `path`.
        return type(self), (self.path, self.reason)


class VolumeError(FileError):
    """A volume file, or an array, cannot be used."""


class UnreadableVolumeError(VolumeError):
    """The file is missing, truncated, or not an image at all."""


class NotThreeDimensionalError(VolumeError):
    """The image is not one 3D volume with an extent along every axis."""


class EmptyVolumeError(VolumeError):
    """The image has no voxels, or every voxel has the same value."""


class NotFiniteError(VolumeError):
    """The image or its affine holds NaN or infinity."""


class NotHounsfieldError(VolumeError):
    """The values are no Hounsfield units, or those of a label map."""


class NoAbdomenError(VolumeError):
    """The CT shows no abdomen: organs predicted in it would be invented."""


class GeometryError(VolumeError):
    """A file's geometry is missing, impossible, or contradicts what was stated."""


class GridMismatchError(VolumeError):
    """Two arrays that must lie on one grid do not."""


class LabelNameError(VolumeError):
    """Names in or beside a label map mean no organ, or one organ twice."""


class LabelValueError(UnreadableVolumeError):
    """Voxel values of a label map are no whole numbers, or have no name."""


class NoOrganError(VolumeError):
    """A submission marks every organ absent."""


class AttentionError(VolumeError):
    """No attention can be computed from the probabilities; names the volume."""


class CheckpointError(FileError):
    """A checkpoint cannot be loaded; `path` names it."""


class ServedChangedError(CheckpointError):
    """Another set is served than the one that new networks were compared with."""


class PredictionError(Atlas8kError, RuntimeError):
    """No network could predict a CT, or there is no network of that name.

    Attributes
    ----------
    network, reason
        The network that failed at it, and of what; empty where it was none in particular.
    """

    network = reason = ""

    def of_network(self, network: str, reason: str) -> Self:
        """Return this error with the network that it is of."""
        self.network, self.reason = network, reason
        return self


class ShortMemoryError(PredictionError):
    """A CT needs more memory than is free here and now; another computer may have it."""


class DeviceLostError(Atlas8kError, RuntimeError):
    """The GPU does not answer, or this process cannot use it any more: no fault of any CT.

    Parameters
    ----------
    device
        As PyTorch calls it.
    reason
        What it said.
    """

    def __init__(self, device: str, reason: str) -> None:
        self.device, self.reason = device, reason
        super().__init__(
            f"{device} cannot be used any more ({reason}); nothing is wrong with the CTs. Begin "
            "again; if this comes back, look at the GPU (`nvidia-smi`) or use --conf device cpu"
        )

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.device, self.reason)


class SettingsError(Atlas8kError, ValueError):
    """A setting is unknown or has a value that is not allowed."""


class LedgerError(Atlas8kError):
    """The ledger cannot be opened, read or written."""


class TrainingError(Atlas8kError, ValueError):
    """A training cannot start or go on; the served networks are untouched."""


class EvaluationError(Atlas8kError, ValueError):
    """A table or a set of results cannot be used.

    Parameters
    ----------
    path
        The file, or a description of what was compared.
    reason
        What is wrong and what to do about it.
    row
        Line of the file, the header being line 1.
    """

    def __init__(self, path: str | Path, reason: str, row: int | None = None) -> None:
        self.path = str(path)
        self.reason = reason
        self.row = row
        where = f"{path}, row {row}" if row is not None else str(path)
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str, int | None]]:
        return type(self), (self.path, self.reason, self.row)
