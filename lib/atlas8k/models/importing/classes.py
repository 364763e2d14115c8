"""Which output channel of a published network is which organ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas8k.errors import CheckpointError
from atlas8k.organs import ORGAN_NAMES, find_organ

UNIVERSAL = (
    *("spleen", "kidney_right", "kidney_left", "gall_bladder", "esophagus", "liver", "stomach"),
    *("aorta", "postcava", "portal_vein_and_splenic_vein", "pancreas", "adrenal_gland_right"),
    *("adrenal_gland_left", "duodenum", "hepatic_vessel", "lung_right", "lung_left", "colon"),
    *("intestine", "rectum", "bladder", "prostate", "femur_left", "femur_right", "celiac_trunk"),
    *("kidney_tumor", "liver_tumor", "pancreas_tumor", "hepatic_vessel_tumor", "lung_tumor"),
    *("colon_tumor", "kidney_cyst"),
)
"""The 32 classes of the CLIP-driven universal model (``ORGAN_NAME`` of its code)."""
ABDOMENATLAS_1_1 = (
    *ORGAN_NAMES,
    *("adrenal_gland_left", "adrenal_gland_right", "bladder", "celiac_trunk", "colon"),
    *("duodenum", "esophagus", "femur_left", "femur_right", "hepatic_vessel", "intestine"),
    *("lung_left", "lung_right", "portal_vein_and_splenic_vein", "prostate", "rectum"),
)
"""``class_map_abdomenatlas_1_1`` of SuPreM's code; 1.0 is its first nine."""
KNOWN: Mapping[int, Sequence[str]] = {
    32: UNIVERSAL,
    31: UNIVERSAL[:31],
    25: ABDOMENATLAS_1_1,
    9: ORGAN_NAMES,
}
"""By number of outputs, of networks with one sigmoid a class."""
BACKGROUND = "background"


@dataclass(frozen=True)
class Outputs:
    """Which outputs are used.

    Attributes
    ----------
    organs
        In the order of the file's channels.
    rows
        Channel of each organ in the file.
    activation
        ``"softmax"`` where a channel is background, else ``"sigmoid"``.
    names
        Of all channels.
    """

    organs: tuple[str, ...]
    rows: tuple[int, ...]
    activation: str
    names: tuple[str, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the channels that are none of the nine."""
        return tuple(
            name
            for i, name in enumerate(self.names)
            if i not in self.rows and name.lower() != BACKGROUND
        )

    def architecture(self) -> dict[str, Any]:
        """``out_channels`` and ``outputs`` of the architecture that uses these."""
        take = [[row] for row in self.rows]
        if self.activation == "softmax":
            take.insert(0, [i for i in range(len(self.names)) if i not in self.rows])
        entry: dict[str, Any] = {"out_channels": len(take)}
        if take != [[i] for i in range(len(self.names))]:
            entry["outputs"] = {"of": len(self.names), "take": take}
        return entry


def outputs(
    path: Path, channels: int, names: Sequence[str] | None = None, activation: str | None = None
) -> Outputs:
    """Which of a file's output channels are organs.

    Parameters
    ----------
    channels
        Of the network's output.
    names
        Of the channels as the user or the file's description gives them; ``None``: as
        published networks with so many outputs have them.
    activation
        Where it is known; else by whether there is a background.

    Raises
    ------
    CheckpointError
        Number of names and channels differ, names are not known, none of them is one of
        the nine, or one organ has two channels.
    """
    if names is None:
        names = KNOWN.get(channels)
        if names is None:
            raise CheckpointError(
                path,
                f"has {channels} output channels and does not say what they are; name them in "
                "their order with --classes, 'background' included",
            )
    if len(names) != channels:
        raise CheckpointError(
            path, f"has {channels} output channels, and {len(names)} are named: {', '.join(names)}"
        )
    background = any(name.lower() == BACKGROUND for name in names)
    activation = activation or ("softmax" if background else "sigmoid")
    if activation == "softmax" and not background:
        raise CheckpointError(path, "no channel is named 'background', which its softmax needs")
    found = [(organ.name, row) for row, name in enumerate(names) if (organ := find_organ(name))]
    organs = tuple(name for name, _ in found)
    if not organs:
        raise CheckpointError(
            path, f"knows none of the nine structures; its channels are {', '.join(names)}"
        )
    twice = sorted({name for name in organs if organs.count(name) > 1})
    if twice:
        raise CheckpointError(path, f"names {', '.join(twice)} for two channels")
    return Outputs(organs, tuple(row for _, row in found), activation, tuple(names))
