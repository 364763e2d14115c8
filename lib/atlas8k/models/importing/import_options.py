"""Options of an import, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas8k.core.errors import CheckpointError

if TYPE_CHECKING:
    from atlas8k.models.checkpoint import Checkpoint


class OrientationUnknownError(CheckpointError):
    """A network's files do not state the orientation of its training volumes."""


@dataclass(frozen=True)
class Options:
    """Facts that a file may lack; ``None``: as the file states, or the usual value.

    Attributes
    ----------
    name
        Name of the network in a set.
    classes
        Names of the output channels in their order.
    folds
        Folds of an nnU-Net results folder, such as ``("0", "1")``, averaged, or ``("all",)``.
    orientation
        Directions of the axes of the training volumes, such as ``"LPS"``; needed where the
        files do not state them.
    patch_merging
        Patch merging of a Swin UNETR: ``"older"`` (MONAI before 1.5), ``"merging"`` or
        ``"mergingv2"``.
    """

    name: str | None = None
    classes: tuple[str, ...] | None = None
    folds: tuple[str, ...] | None = None
    orientation: str | None = None
    patch_merging: str | None = None


@dataclass(frozen=True, eq=False)
class Imported:
    """An imported network.

    Attributes
    ----------
    checkpoint
        Ready to be saved and predicted with.
    tensors
        Number of tensors in the file, all of them accounted for.
    left_out
        Classes of the network that are none of the nine.
    """

    checkpoint: Checkpoint
    tensors: int
    left_out: tuple[str, ...]


def origin(kind: str, file: str, sha256: str, tensors: int, **more: Any) -> Mapping[str, Any]:
    """Return the JSON object of a network's ``origin``: kind, file, sha256 and more."""
    return {"imported_as": kind, "file": file, "sha256": sha256, "tensors": tensors, **more}
