"""Priority lists: volumes by attention, largest first, in any of three published ways.

All are sums in ml over the working grid, so that thin slices do not rank higher, and are
kept by organ, so that a list for some organs needs no new pass:

``eq4``
    The paper's: the sum of Eq. 4.
``salient``
    ``create_attention.py`` of the reference code: the volume of the voxels that are
    salient in inconsistency, uncertainty or overlap. There it counts only organs that
    the source dataset did not label: give these as ``known``.
``per_slice``
    ``calculate_attention.py``: every organ's map divided by its largest value, summed,
    divided by the number of slices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from atlas8k.attention.salient import Salient
from atlas8k.attention.sizes import AttentionSizes
from atlas8k.errors import AttentionError

Ranking = Literal["eq4", "salient", "per_slice"]

RANKINGS: tuple[Ranking, ...] = get_args(Ranking)
DEFAULT_RANKING: Ranking = "salient"

ByOrgan = Mapping[str, float]


@dataclass(frozen=True)
class RankingScores:
    """One volume's scores by organ name, for every ranking.

    Attributes
    ----------
    eq4, salient
        ml.
    per_slice
        ml a slice.
    """

    eq4: dict[str, float]
    salient: dict[str, float]
    per_slice: dict[str, float]

    def by(self, ranking: str) -> dict[str, float]:
        """Scores of one ranking; :class:`AttentionError` for an unknown name."""
        check_ranking(ranking)
        scores: dict[str, float] = getattr(self, ranking)
        return scores

    def total(self, ranking: str = DEFAULT_RANKING) -> float:
        """Score of the volume."""
        return float(sum(self.by(ranking).values()))

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Ranking name to organ name to score."""
        return {ranking: self.by(ranking) for ranking in RANKINGS}


@dataclass(frozen=True)
class Ranked:
    """A volume's place in a priority list.

    Attributes
    ----------
    place
        1 for the volume to look at first.
    name
        The volume.
    score
        Sum over the organs that count.
    organs
        Score by organ, largest first: the order in which to look at them.
    """

    place: int
    name: str
    score: float
    organs: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain fields, ready for JSON."""
        return {
            "place": self.place,
            "name": self.name,
            "score": self.score,
            "organs": dict(self.organs),
        }


def check_ranking(ranking: str) -> None:
    """Raise :class:`AttentionError` for a ranking that is not in ``RANKINGS``."""
    if ranking not in RANKINGS:
        raise AttentionError(
            "ranking", f"{ranking!r} is not a ranking; use one of {', '.join(RANKINGS)}"
        )


def ranking_scores(
    sizes: AttentionSizes, salient_ml: ByOrgan, slices: int, name: str = "volume"
) -> RankingScores:
    """Scores of one volume for every ranking.

    Parameters
    ----------
    sizes
        Attention sizes on the working grid.
    salient_ml
        Salient volume by organ, :attr:`~atlas8k.attention.salient.Salient.salient_ml`.
    slices
        Axial slices of the working grid (its third axis).
    name
        The volume, for messages.
    """
    if slices < 1:
        raise AttentionError(name, f"{slices} slices; give the working grid's third extent")
    if set(salient_ml) != set(sizes.organs):
        raise AttentionError(name, "the salient volumes are of other organs than the sizes")
    per_slice = {
        organ: ml / sizes.peak[organ] / slices if sizes.peak[organ] > 0 else 0.0
        for organ, ml in sizes.attention_ml.items()
    }
    return RankingScores(
        eq4=dict(sizes.attention_ml),
        salient={organ: float(salient_ml[organ]) for organ in sizes.organs},
        per_slice=per_slice,
    )


def scores_of(salient: Salient, name: str = "volume") -> RankingScores:
    """Scores of one volume from its salient regions."""
    return ranking_scores(salient.sizes, salient.salient_ml, salient.grid.shape[2], name)


def priority_list(
    scores: Mapping[str, RankingScores | ByOrgan],
    ranking: str = DEFAULT_RANKING,
    *,
    organs: Collection[str] | None = None,
    known: Mapping[str, Collection[str]] | None = None,
) -> list[Ranked]:
    """Volumes in the order in which to look at them.

    Parameters
    ----------
    scores
        By volume name, all its scores, or scores by organ of one ranking.
    ranking
        Which scores to use; not looked at for scores by organ.
    organs
        Only these organs count; all by default.
    known
        By volume name, organs whose labels came with the source dataset and which
        therefore do not count.

    Returns
    -------
    list of Ranked
        Largest score first, ties by name.

    Raises
    ------
    AttentionError
        An unknown ranking, a volume without a score of an organ that is asked for, or a
        score that is not a number; names the volume.
    """
    check_ranking(ranking)
    entries = []
    for name, volume in scores.items():
        by_organ = volume.by(ranking) if isinstance(volume, RankingScores) else volume
        missing = sorted(set(organs or ()) - set(by_organ))
        if missing:
            raise AttentionError(
                name, f"no score of {', '.join(missing)}; it has {', '.join(by_organ)}"
            )
        broken = sorted(organ for organ, value in by_organ.items() if not 0 <= value < float("inf"))
        if broken:
            raise AttentionError(name, f"the score of {', '.join(broken)} is no number; score anew")
        wanted = set(by_organ if organs is None else organs) - set((known or {}).get(name, ()))
        counted = sorted(
            ((organ, float(value)) for organ, value in by_organ.items() if organ in wanted),
            key=lambda item: (-item[1], item[0]),
        )
        entries.append((name, sum(value for _, value in counted), dict(counted)))
    entries.sort(key=lambda entry: (-entry[1], entry[0]))
    return [Ranked(place, *entry) for place, entry in enumerate(entries, start=1)]
