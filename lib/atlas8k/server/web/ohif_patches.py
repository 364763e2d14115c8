"""Changes to the viewer OHIF as MONAI Label's wheel brings it: built, and with two faults.

A patch replaces a passage of one script, word for word. A wheel with other scripts may not
have the passage any more: then the viewer is served without the patch, and the log says which
and what follows from that.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas8k.labels.dicom_seg_writing import ATTENTION_COLOR
from atlas8k.organs import ORGANS
from atlas8k.server.infer import ATTENTION_IDS

logger = logging.getLogger(__name__)

STRATEGY = "attention"
"""Strategy of *Next Sample* until the annotator chooses another."""


@dataclass(frozen=True)
class Patch:
    """One change.

    Attributes
    ----------
    name
        Of the log.
    passages
        Each with what takes its place; all are in one script, once each.
    without
        What is wrong in a viewer without it.
    """

    name: str
    passages: tuple[tuple[bytes, bytes], ...]
    without: str

    def fits(self, script: bytes) -> bool:
        """Whether every passage is in the script, once."""
        return all(script.count(old) == 1 for old, _ in self.passages)

    def apply(self, script: bytes) -> bytes:
        """Return the script with every passage replaced."""
        for old, new in self.passages:
            script = script.replace(old, new)
        return script


def colors() -> Patch:
    """Put our colours in front of OHIF's list, which has none for half of our names."""
    found = b"const GenericAnatomyColors = ["
    shown = {organ.name: organ.color for organ in ORGANS}
    shown |= dict.fromkeys(ATTENTION_IDS, ATTENTION_COLOR)
    ours = [{"label": k, "value": "#{:02x}{:02x}{:02x}".format(*v)} for k, v in shown.items()]
    return Patch(
        "colours",
        ((found, found + b"..." + json.dumps(ours).encode() + b", "),),
        "organs are shown in chance colours",
    )


def strategy() -> Patch:
    """Have *Next Sample* ask for the strategy that is chosen, at first for `attention`.

    The list calls a method that there is not, so that the choice was never kept and
    ``random`` was asked for whatever was chosen.
    """
    return Patch(
        "strategy",
        (
            (
                b"strategy: 'random',\n      training: false,",
                f"strategy: '{STRATEGY}',\n      training: false,".encode(),
            ),
            (
                b"onChange: this.onChangeStrategy,",
                b"onChange: event => this.setState({strategy: event.target.value}),",
            ),
        ),
        "Next Sample asks for strategy random whatever is chosen",
    )


def patches() -> tuple[Patch, ...]:
    """Return every patch."""
    return colors(), strategy()


def patched(viewer: Path, wanted: Sequence[Patch]) -> dict[Path, bytes]:
    """Return the scripts of a viewer that a patch changes, with it.

    Parameters
    ----------
    viewer
        Folder of its files. A patch that fits none of its scripts, or several, is left out,
        and logged as an error.
    """
    changed: dict[Path, bytes] = {}
    scripts = {path: path.read_bytes() for path in sorted(viewer.glob("*.js"))}
    for patch in wanted:
        fitting = [path for path, script in scripts.items() if patch.fits(script)]
        if len(fitting) != 1:
            logger.error(
                "OHIF: %d of the %d scripts in %s have the text of patch %r, where one must: "
                "this MONAI Label brings another OHIF, and %s",
                len(fitting),
                len(scripts),
                viewer,
                patch.name,
                patch.without,
            )
            continue
        (path,) = fitting
        scripts[path] = changed[path] = patch.apply(scripts[path])
    return changed


@functools.cache
def scripts_of(viewer: Path) -> dict[Path, bytes]:
    """Return :func:`patched` with every patch, read once."""
    return patched(viewer, patches())
