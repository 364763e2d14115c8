"""The look at an image's content, before its prediction is believed or an annotator gets it."""

from __future__ import annotations

from pathlib import Path

from atlas8k.content import DECIDED_BY_PEOPLE, inspect_content
from atlas8k.core.errors import VolumeError
from atlas8k.core.remarks import Remark
from atlas8k.core.volume import read_ct
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.inspection import Inspector
from atlas8k.store import Ledger, UnknownVolumeError


def look_at(path: Path) -> tuple[Remark, ...]:
    """Return a CT's remarks; none of one that cannot be read, which whoever needs it reports."""
    try:
        return inspect_content(read_ct(path))
    except VolumeError:
        return ()


CONTENT = Inspector("content", look_at, lambda _: "2")
"""Reads all of a CT: asked where it is read anyway, not for every image of a folder."""


def admit(
    studies: StudiesFolder, ledger: Ledger, volume: str, known: tuple[Remark, ...] | None = None
) -> bool:
    """Look at a volume's content, and set it aside where people have to decide about it.

    Parameters
    ----------
    known
        What :func:`look_at` found in this very file; by default the file is read here.

    Returns
    -------
    bool
        Whether the volume counts: nothing was found, or somebody has included it.

    Raises
    ------
    NotFoundError, UpstreamError
        The image is gone; its archive does not answer.
    """
    inspector = CONTENT if known is None else CONTENT._replace(look=lambda _: known)
    found = [one for one in studies.ask(inspector, volume) if one.kind in DECIDED_BY_PEOPLE]
    first = found[0] if found else None
    try:
        if first is None:
            # Nothing to write for nearly every volume, and somebody waits for this one.
            if ledger.status(volume) != "excluded":
                return True
            ledger.judge_content(volume, None)
        else:
            ledger.judge_content(volume, first.kind, first.text)
        return ledger.status(volume) != "excluded"
    except UnknownVolumeError:  # it appeared a moment ago: the next look takes it up
        return first is None
