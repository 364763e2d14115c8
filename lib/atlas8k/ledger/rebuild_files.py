"""Label files as a rebuild finds them: what each says of itself, or its voxels say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas8k.errors import VolumeError
from atlas8k.labels.provenance import Provenance, read_provenance
from atlas8k.labels.submission_diff import compared
from atlas8k.ledger.records import Holder, OrganChange, OrganSource
from atlas8k.volume import NIFTI_SUFFIXES, Volume, read_label

FINAL, ORIGINAL = "final", "original"


@dataclass(frozen=True)
class LabelOnDisk:
    """A label file, in force or replaced.

    Parameters
    ----------
    volume, tag, path
        Whose label it is, its tag, and the file.
    written_at
        UTC seconds since 1970.
    info
        What was noted beside it: ``client_id``, ``model_signature``, ``absent`` are used
        where the file itself does not say.
    in_force
        It is the volume's label of its tag now.
    """

    volume: str
    tag: str
    path: Path
    written_at: float
    info: Mapping[str, Any] = field(default_factory=dict)
    in_force: bool = False


class Reader:
    """Reads label files; those that cannot be read are nothing, and noted with the reason.

    Attributes
    ----------
    unreadable
        Reason by file.
    """

    def __init__(self) -> None:
        self.unreadable: dict[str, str] = {}

    def provenance(self, label: LabelOnDisk) -> Provenance | None:
        """What a file says of itself."""
        if not label.path.name.endswith(NIFTI_SUFFIXES):
            return None
        try:
            return read_provenance(label.path)
        except VolumeError as error:
            self.unreadable[str(label.path)] = error.reason
            return None

    def voxels(self, label: LabelOnDisk) -> Volume | None:
        """Organ ids on the CT's grid."""
        try:
            return read_label(label.path)
        except VolumeError as error:
            self.unreadable[str(label.path)] = error.reason
            return None

    def agreement(self, first: LabelOnDisk | None, second: LabelOnDisk) -> dict[str, OrganChange]:
        """Per organ, how far two readings agree; empty where one of them cannot be read."""
        one = None if first is None else self.voxels(first)
        two = self.voxels(second)
        if one is None or two is None or one.array.shape != two.array.shape:
            return {}
        return compared(one.array, two.array, one.grid)


def of_dataset(said: Provenance) -> dict[str, OrganSource]:
    """What a public label can say; nothing else is taken from it."""
    return {
        organ: OrganSource("public", source.state, source.dataset)
        for organ, source in said.organs.items()
        if source.state == "unknown"
        or (source.source == "public" and source.state in ("present", "absent"))
    }


def signature_of(label: LabelOnDisk, said: Provenance | None) -> str | None:
    """The model signature that a label names, or that was noted beside it."""
    signature = (said and said.signature) or label.info.get("model_signature")
    return signature if isinstance(signature, str) else None


def holder_of(info: Mapping[str, Any]) -> Holder:
    """Who sent a label, by what was noted beside it."""
    client = info.get("client_id")
    return Holder.identify(client_id=client if isinstance(client, str) else None)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
