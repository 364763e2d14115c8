"""What a reviewer is shown: the queue, and everything about one case."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from atlas8k.server.desk.desk import Desk

ALIKE = (
    "the first reader was anonymous: whoever has the same address and software does not get "
    "it, although it may be somebody else; have people set a client id"
)


def queue(desk: Desk) -> dict[str, Any]:
    """Open questions, oldest first, and what waits for somebody else.

    Returns
    -------
    dict
        ``open``: the questions; ``second_readings``: volumes that wait for another reader,
        with ``anonymous`` where it cannot be told who that may be; ``returned``: cases
        that wait for their annotator.
    """
    offers = desk.ledger.offers()
    return {
        "open": [asdict(one) for one in desk.ledger.reviews()],
        "second_readings": [
            {
                "volume": one.volume,
                "since": one.at,
                "anonymous": ALIKE if (one.not_holder or "").startswith("anonymous:") else None,
            }
            for one in offers
            if one.purpose == "double_read"
        ],
        "returned": [
            {"volume": one.volume, "to": one.holder, "note": one.note, "since": one.at}
            for one in offers
            if one.purpose == "returned"
        ],
    }


def case(desk: Desk, volume: str) -> dict[str, Any]:
    """Everything about one case that a decision may rest on."""
    return {
        "volume": volume,
        "status": desk.ledger.status(volume),
        "reviews": [asdict(one) for one in desk.ledger.all_reviews(volume)],
        "submissions": [
            {
                "id": one.submission.id,
                "holder": one.submission.holder,
                "anonymous": one.submission.anonymous,
                "submitted_at": one.submission.submitted_at,
                "minutes": one.submission.minutes,
                "purpose": one.submission.purpose,
                "conflict": one.submission.conflict,
                "in_force": one.in_force,
                "file": None if one.file is None else str(one.file.relative_to(desk.folder.path)),
                "organs": {organ: change._asdict() for organ, change in one.organs.items()},
            }
            for one in desk.history(volume)
        ],
        "organs": {o: one._asdict() for o, one in desk.ledger.sources(volume).items()},
        "agreement": [
            {
                "first": first,
                "second": second,
                "organs": {organ: change._asdict() for organ, change in organs.items()},
            }
            for _, first, second, organs in desk.ledger.agreements(volume)
        ],
    }
