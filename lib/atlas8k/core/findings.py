"""What anatomy has against an organ of a label."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """An organ that somebody should look at, and why.

    Attributes
    ----------
    organ
        Name of the organ to look at first.
    rule
        ``volume``, ``shape``, ``place``, ``two``, ``mirrored`` or ``missing`` of what is
        impossible; see :mod:`atlas8k.labels.checks` for others.
    text
        One sentence for people.
    """

    organ: str
    rule: str
    text: str
