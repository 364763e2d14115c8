"""Which organ a segment's name or code stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["organ", "part", "background", "attention", "unknown"]


@dataclass(frozen=True)
class Term:
    """What a segment's name means.

    Attributes
    ----------
    kind
        ``organ``; ``part`` of one (a tumour, lesion or cyst in it: its voxels count into the
        organ); ``background``; ``attention`` (a region the attention map marked);
        ``unknown``.
    organ
        Name of the organ for ``organ`` and ``part``, else ``None``.
    """

    kind: Kind
    organ: str | None = None


def term(name: str, code: str | None = None) -> Term:
    """What a segment's name means; where the name means nothing, what its code means.

    Parameters
    ----------
    name
        As the client wrote it: case, blanks and hyphens do not matter.
    code
        SNOMED CT concept id, or ``SRT`` code such as ``T-62000``.
    """
    raise NotImplementedError
