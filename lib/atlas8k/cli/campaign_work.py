"""Open a studies folder for the campaign's commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from atlas8k.cli.open_studies import context_of, ledger_of, workers_of
from atlas8k.services.campaign import CampaignWork
from atlas8k.services.scoring import Report, log_report
from atlas8k.store import locate


@contextmanager
def open_campaign(
    studies: str | Path,
    models: Path,
    conf: Mapping[str, str],
    *,
    networks: str = "all",
    report: Report = log_report,
    cluster: str = "",
    workers: int = 0,
) -> Iterator[CampaignWork]:
    """Open a folder to work on; it is closed at the end of the block.

    Where `conf` names no budget, that of the last round counts. With `cluster` volumes are
    predicted there, see :func:`~atlas8k.cli.open_studies.workers_of`.
    """
    settings = dict(conf)
    if not settings.get("budget"):
        settings["budget"] = last_budget(studies, settings.get("ledger", ""))
    with (
        context_of(settings, studies, models) as context,
        workers_of(context, cluster, models, workers) as spread,
    ):
        yield CampaignWork(context, networks, report, spread)


def record_settings(
    work: CampaignWork,
    conf: Mapping[str, str],
    audit_percent: float | None,
    stop_after: int | None,
) -> None:
    """Record a command's settings in the ledger, from options or else from ``--conf``.

    Parameters
    ----------
    conf
        Settings that `work` was opened with; a budget in it is the next round's.
    """
    settings = work.settings
    work.ledger.set_campaign(
        audit_percent=settings.audit_percent if audit_percent is None else audit_percent,
        stop_after=settings.stop_after if stop_after is None else stop_after,
        budget=settings.budget if conf.get("budget") else None,
    )


def last_budget(studies: str | Path, ledger: str) -> str:
    """Return the budget of the last round; ``""``, the default, where there was none."""
    path = Path(ledger) if ledger else locate(str(studies))
    if not path.exists():
        return ""
    with ledger_of(str(studies), path) as book:
        rounds = book.rounds()
    return str(rounds[-1].budget) if rounds else ""
