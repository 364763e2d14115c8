"""Which of many cases are measured: a few that hold every organ, always the same ones.

Public datasets label some organs each, and the largest of them few. Of a few thousand such
cases, the first fifty in any order that knows nothing of organs hold the liver fifty times,
and the stomach once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from atlas8k.organs import ORGAN_NAMES
from atlas8k.training.data import Case
from atlas8k.training.sides import AnyCase, by_hash

QUOTA = 10
"""Cases of an organ that are looked for before any other case is taken: twice what a paired
test needs, since an organ that is labeled may be absent."""


def spread(cases: Sequence[AnyCase], most: int) -> list[AnyCase]:
    """At most so many of the cases, every organ in as many of them as can be.

    First a case of every organ, then a second one, up to :data:`QUOTA`; what room is left
    then goes to any. Among those that would do, the order is that of a hash of the name.

    Parameters
    ----------
    cases
        Those in which nobody has labeled an organ are not taken: nothing is measured there.

    Returns
    -------
    list
        In the order of the hash.
    """
    there = [case for case in by_hash(cases) if labeled(case)]
    if len(there) <= most:
        return there
    taken: set[str] = set()
    counts: Counter[str] = Counter()
    for level in (*range(1, QUOTA + 1), len(there)):
        for case in there:
            organs = labeled(case)
            wanted = any(counts[organ] < level for organ in organs)
            if wanted and case.name not in taken and len(taken) < most:
                taken.add(case.name)
                counts.update(organs)
    return [case for case in there if case.name in taken]


def labeled(case: Case) -> tuple[str, ...]:
    """Organs that somebody stands for; all of them where a case does not say."""
    return tuple(getattr(case, "known_organs", ORGAN_NAMES))
