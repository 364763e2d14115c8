"""The fine-tuning of a round in the form of reports, from what the trainer noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from atlas8k.campaign.reports import OrganDsc, Training
from atlas8k.ledger import Ledger, Trained, UnknownSignatureError

STATS = "train_stats.json"
"""What the last training did, in the folder of the networks."""
TOGETHER = "ensemble"
Verdict = Literal["published", "partly published", "refused", "not compared", "failed"]


def note(ledger: Ledger, stats: Mapping[str, Any]) -> bool:
    """Keep what the trainer wrote of its last training with the round it was made in.

    Parameters
    ----------
    stats
        Its statistics; of one that runs still, or of none, nothing is kept. Nor of one that
        began with networks that this ledger does not know: that is another campaign's, whose
        networks lie in the folder that was looked into.

    Returns
    -------
    bool
        Whether it is new: noting a training twice is noting it once.
    """
    started = stats.get("start_ts")
    if "total_time" not in stats or not isinstance(started, int | float):
        return False
    try:
        ledger.signature_detail(str(stats.get("trained_from")))
    except UnknownSignatureError:
        return False
    # `start_ts` is in whole seconds, rounded down.
    before = [one.number for one in ledger.rounds() if one.opened_at < started + 1]
    key = f"{started} {stats.get('trained_from')} {stats['total_time']}"
    return ledger.note_training(before[-1] if before else None, key, stats)


def training(noted: Trained) -> Training:
    """What is known of a training; fields it does not have are null or empty."""
    stats = noted.detail
    gate = _object(stats.get("gate"))
    published = [str(one) for one in gate.get("publish", ())]
    refused = {str(k): str(v) for k, v in _object(gate.get("refused")).items()}
    organs = _organs(_object(gate.get("compared")))
    seconds = stats.get("total_time")
    return Training(
        at=noted.at,
        trained_from=_text(stats.get("trained_from")),
        signature=_text(stats.get("model_signature")),
        networks=list(dict.fromkeys([*published, *(n for n in refused if n != TOGETHER)])),
        published=published,
        refused=refused,
        verdict=_verdict(gate, published, refused),
        basis=_text(gate.get("basis")),
        cases=_whole(stats.get("cases")),
        compared=_whole(gate.get("cases")),
        dsc_before=_mean([one.before for one in organs]),
        dsc_after=_mean([one.after for one in organs]),
        organs=organs,
        minutes=seconds / 60 if isinstance(seconds, int | float) else None,
        message=str(stats.get("message", "")),
    )


def _verdict(gate: Mapping[str, Any], published: list[str], refused: dict[str, str]) -> Verdict:
    if not gate:
        return "failed"
    if not gate.get("on", True):
        return "not compared"
    if not published:
        return "refused"
    return "partly published" if refused else "published"


def _organs(compared: Mapping[str, Any]) -> list[OrganDsc]:
    """Of the ensemble where it came to that, else the mean of the networks."""
    chosen = [compared[TOGETHER]] if TOGETHER in compared else list(compared.values())
    by_organ: dict[str, list[Mapping[str, Any]]] = {}
    for verdict in chosen:
        for organ, one in _object(_object(verdict).get("organs")).items():
            by_organ.setdefault(organ, []).append(_object(one))
    return [
        OrganDsc(
            organ=organ,
            cases=max(int(one.get("cases", 0)) for one in rows),
            before=sum(float(one["served"]) for one in rows) / len(rows),
            after=sum(float(one["new"]) for one in rows) / len(rows),
        )
        for organ, rows in by_organ.items()
    ]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None
