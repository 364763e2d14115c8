"""Record the fine-tunings of rounds, and report them, from the trainer's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, Literal

from atlas8k.campaign.reports import OrganDsc, Training
from atlas8k.store import Ledger, Trained, UnknownModelVersionError

STATS = "train_stats.json"
"""File of the last training's statistics, in the folder of the networks."""
TOGETHER = "ensemble"
Verdict = Literal["published", "partly published", "refused", "not compared", "failed"]


def record_training(ledger: Ledger, stats: Mapping[str, Any]) -> bool:
    """Record the trainer's last training with the round it was made in.

    Parameters
    ----------
    stats
        Its statistics. Nothing is recorded of a training that still runs, of none, or of one
        that began with networks that this ledger does not know: it is another campaign's.

    Returns
    -------
    bool
        Whether it is new: a training is recorded once only.
    """
    started = stats.get("start_ts")
    if "total_time" not in stats or not isinstance(started, int | float):
        return False
    try:
        ledger.model_version_detail(str(stats.get("trained_from")))
    except UnknownModelVersionError:
        return False
    # `start_ts` is in whole seconds, rounded down.
    before = [round_.number for round_ in ledger.rounds() if round_.opened_at < started + 1]
    key = f"{started} {stats.get('trained_from')} {stats['total_time']}"
    return ledger.note_training(before[-1] if before else None, key, stats)


def training(recorded: Trained) -> Training:
    """Report a recorded training; fields it does not have are null or empty."""
    stats = recorded.detail
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
        at=recorded.at,
        trained_from=stats.get("trained_from"),
        model_version=stats.get("model_version"),
        networks=list(dict.fromkeys([*published, *(n for n in refused if n != TOGETHER)])),
        published=published,
        refused=refused,
        verdict=verdict,
        basis=gate.get("basis"),
        cases=stats.get("cases"),
        compared=gate.get("cases"),
        dsc_before=fmean(organ.before for organ in organs) if organs else None,
        dsc_after=fmean(organ.after for organ in organs) if organs else None,
        organs=organs,
        minutes=None if seconds is None else seconds / 60,
        message=str(stats.get("message", "")),
    )


def _organs(compared: Mapping[str, Any]) -> list[OrganDsc]:
    """Return DSC by organ of the ensemble where it was compared, else the networks' mean."""
    chosen = [compared[TOGETHER]] if TOGETHER in compared else list(compared.values())
    by_organ: dict[str, list[Mapping[str, Any]]] = {}
    for verdict in chosen:
        for organ, scores in verdict.get("organs", {}).items():
            by_organ.setdefault(organ, []).append(scores)
    return [
        OrganDsc(
            organ=organ,
            cases=max(scores.get("cases", 0) for scores in rows),
            before=fmean(scores["served"] for scores in rows),
            after=fmean(scores["new"] for scores in rows),
        )
        for organ, rows in by_organ.items()
    ]
