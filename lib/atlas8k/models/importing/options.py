"""What the user says about a file, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas8k.core.errors import CheckpointError

if TYPE_CHECKING:
    from atlas8k.models.checkpoint import Checkpoint


class OrientationUnknownError(CheckpointError):
    """A network's files do not say which way its training volumes lay."""


@dataclass(frozen=True)
class Options:
    """What the file may not say by itself; ``None``: as it says, or as usual.

    Attributes
    ----------
    name
        Of the network in a set.
    classes
        Names of the output channels in their order.
    folds
        Of an nnU-Net results folder, such as ``("0", "1")``, averaged, or ``("all",)``.
    orientation
        Directions the training volumes were stored along, such as ``"LPS"``; needed where
        the files do not say it.
    patch_merging
        Of a Swin UNETR: ``"older"`` (MONAI before 1.5), ``"merging"`` or ``"mergingv2"``.
    """

    name: str | None = None
    classes: tuple[str, ...] | None = None
    folds: tuple[str, ...] | None = None
    orientation: str | None = None
    patch_merging: str | None = None


@dataclass(frozen=True, eq=False)
class Imported:
    """A network brought in.

    Attributes
    ----------
    checkpoint
        Ready to be saved and predicted with.
    tensors
        In the file, all of them accounted for.
    left_out
        Classes of the network that are none of the nine.
    """

    checkpoint: Checkpoint
    tensors: int
    left_out: tuple[str, ...]


def origin(kind: str, file: str, sha256: str, tensors: int, **more: Any) -> Mapping[str, Any]:
    """Return the JSON object that says where a network's weights come from."""
    return {"imported_as": kind, "file": file, "sha256": sha256, "tensors": tensors, **more}
