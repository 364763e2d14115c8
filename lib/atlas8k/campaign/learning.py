"""The fine-tuning of a round in the form of reports, from what the trainer noted."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, Literal

from atlas8k.campaign.reports import OrganDsc, Training
from atlas8k.store import Ledger, Trained, UnknownSignatureError

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
    """Return what is known of a training; fields it does not have are null or empty."""
    stats = noted.detail
    gate = stats.get("gate") or {}
    published, refused = list(gate.get("publish", ())), dict(gate.get("refused", {}))
    if not gate:
        verdict: Verdict = "failed"
    elif not gate.get("on", True):
        verdict = "not compared"
    elif not published:
        verdict = "refused"
    else:
        verdict = "partly published" if refused else "published"
    organs = _organs(gate.get("compared", {}))
    seconds = stats.get("total_time")
    return Training(
        at=noted.at,
        trained_from=stats.get("trained_from"),
        signature=stats.get("model_signature"),
        networks=list(dict.fromkeys([*published, *(n for n in refused if n != TOGETHER)])),
        published=published,
        refused=refused,
        verdict=verdict,
        basis=gate.get("basis"),
        cases=stats.get("cases"),
        compared=gate.get("cases"),
        dsc_before=fmean(one.before for one in organs) if organs else None,
        dsc_after=fmean(one.after for one in organs) if organs else None,
        organs=organs,
        minutes=None if seconds is None else seconds / 60,
        message=str(stats.get("message", "")),
    )


def _organs(compared: Mapping[str, Any]) -> list[OrganDsc]:
    """Of the ensemble where it came to that, else the mean of the networks."""
    chosen = [compared[TOGETHER]] if TOGETHER in compared else list(compared.values())
    by_organ: dict[str, list[Mapping[str, Any]]] = {}
    for verdict in chosen:
        for organ, one in verdict.get("organs", {}).items():
            by_organ.setdefault(organ, []).append(one)
    return [
        OrganDsc(
            organ=organ,
            cases=max(one.get("cases", 0) for one in rows),
            before=fmean(one["served"] for one in rows),
            after=fmean(one["new"] for one in rows),
        )
        for organ, rows in by_organ.items()
    ]
