"""What the page of a campaign shows: how it stands, who did what, what is computed now."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from atlas8k.campaign.effort import annotators
from atlas8k.campaign.reports import Annotator, Status
from atlas8k.campaign.reviewed import of_round
from atlas8k.campaign.status import status
from atlas8k.core.errors import CheckpointError
from atlas8k.store import Ledger, Worked

if TYPE_CHECKING:
    from atlas8k.services.context import Context

DAY_S = 86400.0
FRESH_S = 600.0


@dataclass(frozen=True)
class Person:
    """One annotator's part, in all and in the last 24 hours; ``None``: nothing in that time."""

    in_all: Annotator
    today: Annotator | None


@dataclass(frozen=True)
class Agreement:
    """How far two blind readings agree on an organ.

    ``readings`` have it in both or in one; ``same`` of them are alike voxel by voxel; ``dsc``
    is the mean.
    """

    organ: str
    readings: int
    same: int
    dsc: float | None


@dataclass(frozen=True)
class View:
    """How a campaign stands, as of one moment."""

    status: Status
    people: tuple[Person, ...]
    agreement: tuple[Agreement, ...]
    means: dict[str, float]
    """Mean figure that volumes rank by, by model version."""


class Overview:
    """Gives the view of a campaign; makes it anew when something was done, or after a while.

    Parameters
    ----------
    ledger
        Of the campaign.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._lock = ledger, threading.Lock()
        self._views: dict[str, tuple[Any, View]] = {}

    def view(
        self,
        model_version: str | None,
        *,
        names: bool,
        running: Collection[str],
        seen: Ledger | None = None,
    ) -> View:
        """Return how the campaign stands; parameters as :func:`atlas8k.campaign.status.status`.

        `seen` is the ledger as who asks may see it.
        """
        ledger = seen or self._ledger
        with self._lock:  # of several who ask at once, one reads and the others get the same
            # Taken before: what is written meanwhile is read the next time.
            moment = int(time.time() // FRESH_S)  # after which less is within the last day
            key = (self._ledger.campaign_mark(), model_version, names, tuple(running), moment)
            known = self._views.get(ledger.seen_by)
            if known is None or known[0] != key:
                known = key, self._read(ledger, model_version, names, running)
                self._views[ledger.seen_by] = known
            return known[1]

    def _read(
        self, ledger: Ledger, model_version: str | None, names: bool, running: Collection[str]
    ) -> View:
        return View(
            status(ledger, model_version=model_version, names=names, running=running),
            people(ledger.worked(), ledger.annotators(), names=names, now=time.time()),
            agreement(ledger),
            ledger.mean_figures(),
        )


def people(
    work: Collection[Worked], order: list[str], *, names: bool, now: float
) -> tuple[Person, ...]:
    """Return every annotator's part in the rounds, in the order in which they came.

    Parameters
    ----------
    work
        Submissions of the whole campaign.
    order
        Keys of the annotators: their places are their numbers.
    names
        Show their names; else they are numbered.
    now
        UTC seconds.
    """
    by_round: dict[int, list[Worked]] = defaultdict(list)
    for one in work:
        if one.round is not None:
            by_round[one.round].append(one)
    counted = [one for of_one in by_round.values() for one in of_round(of_one)]
    recent = [one for one in counted if one.submitted_at > now - DAY_S]
    today = {one.name: one for one in annotators(recent, order, names=names)}
    return tuple(
        Person(one, today.get(one.name)) for one in annotators(counted, order, names=names)
    )


def agreement(ledger: Ledger) -> tuple[Agreement, ...]:
    """Return how far double readings agree, by organ, of those that somebody drew."""
    by_organ: dict[str, list[tuple[float | None, int]]] = defaultdict(list)
    for _, _, _, organs in ledger.agreements():
        for organ, change in organs.items():
            if change.voxels_before or change.voxels_after:
                by_organ[organ].append((change.dsc, change.voxels_changed or 0))
    found = []
    for organ, pairs in by_organ.items():
        measured = [dsc for dsc, _ in pairs if dsc is not None]
        same = sum(not changed for _, changed in pairs)
        found.append(Agreement(organ, len(pairs), same, fmean(measured) if measured else None))
    return tuple(found)


def name_of(holder: str | None, order: list[str], *, names: bool) -> str:
    """Return what a holder is called where others read it; empty for nobody.

    Parameters
    ----------
    holder
        Key, see :class:`~atlas8k.store.Holder`.
    order
        Keys of the annotators, by number.
    names
        Show names.
    """
    if not holder:
        return ""
    if names:
        return holder.partition(":")[2] or holder
    return f"annotator {order.index(holder) + 1}" if holder in order else "somebody new"


def work_now(context: Context, running: Collection[str]) -> dict[str, Any]:
    """Return what is computed now and how long it takes still, JSON-ready.

    Parameters
    ----------
    running
        Kinds of work that go on, ``scoring`` and ``training``.

    Returns
    -------
    dict
        ``at``: UTC seconds; ``scoring`` and ``training``: each ``running``, ``text``,
        ``part`` (0 to 1, None: not known) and ``seconds_left`` (None: not known).
    """
    return {
        "at": time.time(),
        "scoring": _scoring(context, "scoring" in running),
        "training": _training(context.training_stats(), "training" in running),
    }


def _scoring(context: Context, running: bool) -> dict[str, Any]:
    try:
        model_version = context.model_version()
    except CheckpointError as err:
        return {"running": running, "text": str(err), "part": None, "seconds_left": None}
    progress = context.ledger.progress(model_version)
    left = progress.total - progress.scored - progress.failed
    text = f"{progress.scored} of {progress.total} volumes scored"
    if progress.failed:
        text += f", {progress.failed} cannot be"
    each = context.ledger.seconds_each(model_version) if running and left else None
    return {
        "running": running,
        "text": text,
        "part": (progress.total - left) / progress.total if progress.total else None,
        "seconds_left": None if each is None else each * left,
    }


def _training(stats: dict[str, Any], running: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"running": running, "part": None, "seconds_left": None}
    if not running:
        return {**found, "text": str(stats.get("message", "")) or "none has run yet"}
    if "total_time" in stats or "network" not in stats:  # of the one before, or none yet
        return {**found, "text": "begins: cases are prepared"}
    text = f"{stats.get('network', '')}: loss {stats.get('loss')}"
    if dsc := stats.get("dsc"):
        text += f", DSC {fmean(dsc.values()):.3f}"
    found["part"] = min(1.0, stats["epoch"] / max(1, stats["total_epochs"]))
    left = float(stats["seconds_left"]) - (time.time() - float(stats["updated_ts"]))
    return {**found, "text": text, "seconds_left": max(0.0, left)}
