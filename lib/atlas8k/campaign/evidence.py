"""Ask a campaign's own submissions what its places and its predicted quality were worth."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from statistics import fmean

from atlas8k.campaign.effort import IDLE_MINUTES
from atlas8k.campaign.reports import PlaceEvidence, QualityEvidence
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


def predicted_and_found(
    work: Iterable[Worked], drawn: Collection[str] = ()
) -> list[QualityEvidence]:
    """Report what was predicted of draft labels beside what was found, by organ and for all.

    Of a volume the first submission of an annotator counts.

    Parameters
    ----------
    work
        Submissions of a round, see :func:`~atlas8k.campaign.reviewed.of_round`.
    drawn
        Volumes that are audits.
    """
    first: dict[str, Worked] = {}
    for submission in work:
        if submission.purpose == "revise" and submission.quality:
            first.setdefault(submission.volume, submission)
    volumes = list(first.values())
    return [
        *(_quality_of(volumes, (organ,), organ, drawn) for organ in ORGAN_NAMES),
        _quality_of(volumes, ORGAN_NAMES, EVERY, drawn),
    ]


def _quality_of(
    volumes: Sequence[Worked], organs: Sequence[str], name: str, drawn: Collection[str]
) -> QualityEvidence:
    assessed = [one for one in volumes if any(organ in one.quality for organ in organs)]
    found = [one.quality[organ] for one in assessed for organ in organs if organ in one.quality]
    inside = [
        (one.low <= one.found_dice <= one.high, one.calibrated > 0)
        for one in found
        if one.low is not None and one.high is not None
    ]
    recalibrated = [is_in for is_in, calibrated in inside if calibrated]
    enough = len(assessed) >= FEWEST
    return QualityEvidence(
        organ=name,
        volumes=len(assessed),
        drawn_at_random=sum(one.volume in drawn for one in assessed),
        enough=enough,
        predicted=fmean(one.shown for one in found) if enough else None,
        found=fmean(one.found_dice for one in found) if enough else None,
        error=fmean(abs(one.found_dice - one.shown) for one in found) if enough else None,
        inside=fmean(is_in for is_in, _ in inside) if enough and inside else None,
        recalibrated=len(recalibrated),
        inside_recalibrated=fmean(recalibrated) if len(recalibrated) >= FEWEST else None,
    )
