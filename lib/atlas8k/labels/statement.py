"""What an annotator says of a label beside its voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas8k.errors import LabelNameError
from atlas8k.labels.ingest import organ_names

ALL = "all"
KEYS = ("absent", "looked_at", "volume_is_right", "partial")


@dataclass(frozen=True)
class Statement:
    """What is said with a label.

    Attributes
    ----------
    absent
        Organs that were looked for and are not there.
    looked_at
        Organs that were looked at, whether they were changed or not.
    all_looked_at
        Every organ that the label has voxels of was looked at. One without voxels counts
        only where it is named: nothing is there that shows that somebody looked.
    volume_is_right
        Organs whose unusual volume was looked at and is right.
    partial
        Of a label that covers a block of the CT: ``True``, the rest is as in the draft label;
        ``False``, there is nothing outside of the block; ``None``, not said.
    """

    absent: frozenset[str] = frozenset()
    looked_at: frozenset[str] = frozenset()
    all_looked_at: bool = False
    volume_is_right: frozenset[str] = frozenset()
    partial: bool | None = None

    @classmethod
    def of(
        cls, params: Mapping[str, Any], path: str | Path = "request", default: object = None
    ) -> Statement:
        """Read the statement of a request's ``params``; keys are :data:`KEYS`.

        Parameters
        ----------
        path
            What an error names.
        default
            What counts as ``looked_at`` where `params` do not say: that of the lease.

        Raises
        ------
        LabelNameError
            A value is of another kind, or names no organ.
        """
        looked = params.get("looked_at")
        looked = default if looked is None else looked
        partial = params.get("partial")
        if partial is not None and not isinstance(partial, bool):
            raise LabelNameError(path, "partial must be true, false or left out")
        return cls(
            absent=_organs(params, "absent", path),
            looked_at=frozenset()
            if looked is None or looked == ALL
            else frozenset(organ_names(looked, 'looked_at ("all" aside)', path)),
            all_looked_at=looked == ALL,
            volume_is_right=_organs(params, "volume_is_right", path),
            partial=partial,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the statement as it goes into a label's header, JSON-ready."""
        return {
            "looked_at": ALL if self.all_looked_at else sorted(self.looked_at),
            "volume_is_right": sorted(self.volume_is_right),
            "partial": self.partial,
        }

    def looked(self, organ: str, *, drawn: bool) -> bool:
        """Return whether an organ was looked at; `drawn`: the label has voxels of it."""
        return organ in self.looked_at or (self.all_looked_at and drawn)


NOTHING_SAID = Statement()


def _organs(params: Mapping[str, Any], key: str, path: str | Path) -> frozenset[str]:
    named = params.get(key)
    return frozenset() if named is None else frozenset(organ_names(named, key, path))
