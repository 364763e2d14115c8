"""A size's place on a logarithmic scale, by which ranks are counted."""

from __future__ import annotations

import math

_PER_OCTAVE = 64
_EMPTY = -1_000_000


def bucket(ml: float) -> int:
    """Place of a size on a logarithmic scale, 64 steps a factor of two; monotonic.

    Counting buckets and then within one gives a rank without counting all volumes.
    """
    return math.floor(_PER_OCTAVE * math.log2(ml)) if ml > 0 else _EMPTY
