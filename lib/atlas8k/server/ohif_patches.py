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
from pathlib import Path
from typing import NamedTuple

from atlas8k.core.structures import ORGANS
from atlas8k.formats.dicom_seg_writing import ATTENTION_COLOR
from atlas8k.server.tasks.infer import ATTENTION_IDS

logger = logging.getLogger(__name__)


class Patch(NamedTuple):
    """One change: passages of one script with what takes their place, each there once.

    ``without`` is what is wrong in a viewer without it.
    """

    name: str
    passages: tuple[tuple[bytes, bytes], ...]
    without: str


def colors() -> Patch:
    """Return a patch that puts our colours in front of OHIF's, which lack half of our names."""
    found = b"const GenericAnatomyColors = ["
    shown = {organ.name: organ.color for organ in ORGANS}
    shown |= dict.fromkeys(ATTENTION_IDS, ATTENTION_COLOR)
    ours = [{"label": k, "value": "#{:02x}{:02x}{:02x}".format(*v)} for k, v in shown.items()]
    return Patch(
        "colours",
        ((found, found + b"..." + json.dumps(ours).encode() + b", "),),
        "organs are shown in chance colours",
    )


STRATEGY = Patch(
    "strategy",
    (
        (
            b"strategy: 'random',\n      training: false,",
            b"strategy: 'attention',\n      training: false,",
        ),
        (
            b"onChange: this.onChangeStrategy,",
            b"onChange: event => this.setState({strategy: event.target.value}),",
        ),
    ),
    "Next Sample asks for strategy random whatever is chosen",
)
"""*Next Sample* asks for the strategy that is chosen, at first for `attention`: the list calls a
method that there is not, so that the choice was never kept."""


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
        fitting = [
            path
            for path, script in scripts.items()
            if all(script.count(old) == 1 for old, _ in patch.passages)
        ]
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
        for old, new in patch.passages:
            scripts[path] = changed[path] = scripts[path].replace(old, new)
    return changed


@functools.cache
def scripts_of(viewer: Path) -> dict[Path, bytes]:
    """Return :func:`patched` with every patch, read once."""
    return patched(viewer, (colors(), STRATEGY))
