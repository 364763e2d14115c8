"""A studies folder opened for the campaign's commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from atlas8k.cli.opening import context_of, ledger_of
from atlas8k.services.campaign import CampaignWork
from atlas8k.services.scoring import Report, log_report
from atlas8k.store import locate


@contextmanager
def opened(
    studies: str | Path,
    models: Path,
    conf: Mapping[str, str],
    *,
    networks: str = "all",
    report: Report = log_report,
) -> Iterator[CampaignWork]:
    """Open a folder to work at; closed at the end of the block.

    Where `conf` names no budget, the last round's goes on.
    """
    settings = dict(conf)
    if not settings.get("budget"):
        settings["budget"] = last_budget(studies, settings.get("ledger", ""))
    with context_of(settings, studies, models) as context:
        yield CampaignWork(context, networks, report)


def record_settings(
    work: CampaignWork,
    conf: Mapping[str, str],
    audit_percent: float | None,
    stop_after: int | None,
) -> None:
    """Record in the ledger what a command was given, as an option or else with ``--conf``.

    Parameters
    ----------
    conf
        What `work` was opened with; a budget in it is the next round's.
    """
    settings = work.settings
    work.ledger.set_campaign(
        audit_percent=settings.audit_percent if audit_percent is None else audit_percent,
        stop_after=settings.stop_after if stop_after is None else stop_after,
        budget=settings.budget if conf.get("budget") else None,
    )


def last_budget(studies: str | Path, ledger: str) -> str:
    """Return the budget of the last round, ``""`` where there was none: the usual one."""
    path = Path(ledger) if ledger else locate(str(studies))
    if not path.exists():
        return ""
    with ledger_of(str(studies), path) as book:
        rounds = book.rounds()
    return str(rounds[-1].budget) if rounds else ""
