"""How the list of a round is drawn: by the ranking alone, at random, or stratified.

Plain functions over what the store keeps of each volume, for the store, the simulation and the
benchmark alike. Everything is drawn from a seed: the same pool and seed give the same list,
whatever order the pool comes in.

``ranking``
    Largest figure of the ranking first.
``random``
    In an order drawn once. The weak baseline of active learning.
``random_foreground``
    The same among volumes in which an organ is predicted, the others behind them: what no
    method of the nnActive benchmark beat reliably (Lüth et al., 2025).
``stratified``
    :func:`stratified`.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Literal, NamedTuple, get_args

Selection = Literal["ranking", "random", "random_foreground", "stratified"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)
RANKING: Selection = "ranking"
"""Where none is chosen."""
DRAWN: tuple[Selection, ...] = ("random_foreground", "stratified")
"""Selections that go by what is known of each CT, and are drawn once in a round."""

STRATIFIED_SHARE = 2 / 3
"""Part of the budget that is drawn by class and diversity, as ClaSP PE has it (Lüth et al.,
"Finally Outshining the Random Baseline", TMLR 2026)."""
FIRST_SHARPNESS, SHARPER_A_ROUND, SHARPEST = 1.0, 10.0, 100.0
"""Of the noise: 1, 10 and 100 in rounds 1, 2 and 3, and so on. ClaSP PE lets power noise decay
too; the steps are ours, since a campaign has few rounds."""
CHOICES = 4
"""A place of a class goes to one of so many times its share of the class's best."""
SIZES = 4
"""Groups of as many volumes by the size of the body."""
UNKNOWN = "unknown"


TRAITS = ("organs", "phase", "coverage", "body_cm2")
"""Of the features of a CT, those that are kept with its score."""


def traits_of(features: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is kept with a score, of the features of a CT.

    Parameters
    ----------
    features
        ``name`` and ``value`` of each, as :func:`atlas8k.content.familiar.compare` gives them.

    Returns
    -------
    dict
        By name, those of :data:`TRAITS`; JSON-ready, below 100 bytes.
    """
    return {line["name"]: line["value"] for line in features if line["name"] in TRAITS}


class Candidate(NamedTuple):
    """What a list is drawn by, of one volume.

    Attributes
    ----------
    volume
        Its name.
    score
        Figure of the ranking in use, 0 or more.
    worst
        The organ with the largest figure of that ranking; empty: none is ranked by.
    foreground
        Whether any organ is predicted.
    body
        Size of the body, such as its median cross-section; None: not known.
    traits
        What diversity is sought in beside the body's size: contrast phase, coverage, source
        dataset, each a word.
    """

    volume: str
    score: float
    worst: str
    foreground: bool
    body: float | None
    traits: tuple[str, ...]

    @classmethod
    def of(
        cls,
        volume: str,
        score: float,
        figures: Mapping[str, float | None],
        traits: Mapping[str, Any],
        source: str,
    ) -> Candidate:
        """Make one of what is kept with a score.

        Parameters
        ----------
        figures
            Of the ranking in use, by organ, of organs that are ranked by.
        traits
            Of the CT, as :func:`traits_of` gives them.
        source
            Dataset that it is from; empty: not known.
        """
        measured = {organ: value for organ, value in figures.items() if value is not None}
        body = traits.get("body_cm2")
        return cls(
            volume,
            score,
            max(sorted(measured), key=measured.__getitem__, default=""),
            bool(traits.get("organs")),
            None if body is None else float(body),
            (
                str(traits.get("phase") or UNKNOWN),
                str(traits.get("coverage") or UNKNOWN),
                source or UNKNOWN,
            ),
        )


def drawn(
    selection: Selection, pool: Sequence[Candidate], budget: int, seed: str, round_: int
) -> list[str]:
    """Return the names of a pool in the order of a selection.

    Parameters
    ----------
    budget
        So many places are the budget's.
    seed
        Of the campaign; the order is by a hash of it, the round and the volume's name.
    round_
        Number of the round, from 1.
    """
    ranked = sorted(pool, key=lambda one: (-one.score, one.volume))
    if selection == "ranking":
        return [one.volume for one in ranked]
    if selection == "stratified":
        return stratified(ranked, budget, seed, round_)

    def place(one: Candidate) -> tuple[bool, float]:
        behind = selection == "random_foreground" and not one.foreground
        return behind, _uniform(seed, round_, one.volume)

    return [one.volume for one in sorted(pool, key=place)]


def stratified(
    ranked: Sequence[Candidate],
    budget: int,
    seed: str,
    round_: int,
    *,
    share: float = STRATIFIED_SHARE,
) -> list[str]:
    """Return the names of a list that is drawn by class, by diversity and by a noisy ranking.

    Of the budget, ``share`` goes to classes, the organ that is worst in a volume being its
    class, in turn, so that an organ of small volume has its places beside the liver. Each place
    goes to that one of the class's best whose traits were chosen least so far. The rest of the
    budget is the first by :func:`noisy` score. The budget's places come in the order of the
    ranking, so that the worst is seen first; so do the volumes behind them.

    Parameters
    ----------
    ranked
        Largest figure first.
    share
        0: by the noisy ranking alone.
    """
    budget = min(budget, len(ranked))
    by_noise = sorted(
        ranked, key=lambda one: (-noisy(one.score, seed, round_, one.volume), one.volume)
    )
    chosen = _by_class(by_noise, round(share * budget), _body_sizes(ranked))
    for one in by_noise:
        if len(chosen) >= budget:
            break
        chosen.add(one.volume)
    inside = [one.volume for one in ranked if one.volume in chosen]
    return inside + [one.volume for one in ranked if one.volume not in chosen]


def noisy(score: float, seed: str, round_: int, volume: str) -> float:
    """Return a score's logarithm with Gumbel noise, which decays from round to round.

    The first n of a list by it are n draws without replacement with a probability in proportion
    to ``score ** sharpness`` (Kirsch et al., "Stochastic Batch Acquisition", TMLR 2023).
    """
    if score <= 0:
        return -math.inf
    decayed = SHARPER_A_ROUND ** min(round_ - 1, 9)
    sharpness = min(SHARPEST, FIRST_SHARPNESS * decayed)
    gumbel = -math.log(-math.log(_uniform(seed, round_, volume)))
    return math.log(score) + gumbel / sharpness


def _by_class(by_noise: Sequence[Candidate], places: int, sizes: Mapping[str, str]) -> set[str]:
    """Return so many volumes, class by class in turn, of each the least alike to those chosen."""
    classes: dict[str, list[Candidate]] = defaultdict(list)
    for one in by_noise:
        if one.worst and one.score > 0:
            classes[one.worst].append(one)
    quota = math.ceil(places / max(1, len(classes)))
    # A class that has few leaves its places to the others, which then look further down.
    left = {name: members[: max(CHOICES * quota, places)] for name, members in classes.items()}
    chosen: set[str] = set()
    seen: Counter[tuple[int, str]] = Counter()

    def traits(one: Candidate) -> list[tuple[int, str]]:
        return list(enumerate((*one.traits, sizes[one.volume])))

    for turn in count():
        if len(chosen) >= places or not any(left.values()):
            return chosen
        name = sorted(left)[turn % len(left)]
        best = left[name][: CHOICES * quota]
        if best:
            one = min(best, key=lambda each: sum(seen[trait] for trait in traits(each)))
            left[name].remove(one)
            seen.update(traits(one))
            chosen.add(one.volume)
    raise AssertionError  # count() does not end


def _body_sizes(pool: Sequence[Candidate]) -> dict[str, str]:
    """Return each volume's quarter by the size of the body."""
    known = sorted(one.body for one in pool if one.body is not None)

    def group(body: float | None) -> str:
        return UNKNOWN if body is None else str(SIZES * bisect_left(known, body) // len(known))

    return {one.volume: group(one.body) for one in pool}


def _uniform(seed: str, round_: int, volume: str) -> float:
    """Return a number above 0 and below 1 that nothing but its arguments decides."""
    digest = hashlib.sha256(f"{seed} {round_} {volume}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
