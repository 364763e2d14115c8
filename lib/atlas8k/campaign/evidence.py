"""Ask a campaign's own submissions whether its places to look at led to what was wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atlas8k.campaign.effort import IDLE_MINUTES
from atlas8k.campaign.reports import PlaceEvidence
from atlas8k.campaign.reviewed import needed
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Worked

FEWEST = 20
"""Volumes in which an organ was assessed; shares of fewer are not told."""
EVERY = "all"


def evidence(work: Iterable[Worked]) -> list[PlaceEvidence]:
    """Report how the changes of a round lie to the places shown, by organ and for all of them.

    Of a volume the first submission of an annotator counts, the one that was made with the
    places before it. Shares are of all volumes together: changed millilitres inside over changed
    millilitres, places with a change over places.

    Parameters
    ----------
    work
        Submissions of a round, see :func:`~atlas8k.campaign.reviewed.of_round`.
    """
    first: dict[str, Worked] = {}
    for submission in work:
        if submission.purpose == "revise" and submission.places:
            first.setdefault(submission.volume, submission)
    volumes = list(first.values())
    return [
        *(_of(volumes, (organ,), organ) for organ in ORGAN_NAMES),
        _of(volumes, ORGAN_NAMES, EVERY),
    ]


def _of(volumes: Sequence[Worked], organs: Sequence[str], name: str) -> PlaceEvidence:
    assessed = [one for one in volumes if any(organ in one.places for organ in organs)]
    found = [one.places[organ] for one in assessed for organ in organs if organ in one.places]
    changed_ml = sum(each.changed_ml for each in found)
    inside_ml = sum(each.inside_ml for each in found)
    places = sum(each.places for each in found)
    changed_places = sum(each.changed_places for each in found)
    changed = [one for one in assessed if _changed(one, organs)]
    minutes = [min(one.minutes, IDLE_MINUTES) for one in changed if one.minutes is not None]
    enough = len(assessed) >= FEWEST
    return PlaceEvidence(
        organ=name,
        volumes=len(assessed),
        enough=enough,
        changed_ml=changed_ml,
        inside_ml=inside_ml,
        share_inside=inside_ml / changed_ml if enough and changed_ml else None,
        places=places,
        changed_places=changed_places,
        share_places=changed_places / places if enough and places else None,
        minutes=sum(minutes) / len(minutes) if enough and minutes else None,
    )


def _changed(one: Worked, organs: Sequence[str]) -> bool:
    return any(organ in one.organs and needed(one.organs[organ]) for organ in organs)
