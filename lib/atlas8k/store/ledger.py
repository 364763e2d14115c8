"""The ledger as the rest of the product sees it: one object, one method a transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, NoReturn, ParamSpec, TypeVar

from atlas8k.core.errors import LedgerError

# Some with an underscore: a method has the name.
from atlas8k.store import assistance as assistance_
from atlas8k.store import (
    audit_trail,
    checks,
    decisions,
    label_files,
    overview,
    plans,
    provenance,
    quality,
    queue,
    scores,
    selections,
    sweeps,
    volumes,
)
from atlas8k.store import drawings as drawings_
from atlas8k.store import gold as gold_
from atlas8k.store import leases as leases_
from atlas8k.store import ranking as ranking_
from atlas8k.store import reviews as reviews_
from atlas8k.store import rounds as rounds_
from atlas8k.store import submissions as submissions_
from atlas8k.store import usability as usability_
from atlas8k.store.backup import write_backup
from atlas8k.store.database import Database
from atlas8k.store.records import VolumeEntry
from atlas8k.store.transaction import Transaction

P = ParamSpec("P")
R = TypeVar("R")


def reading(do: Callable[Concatenate[Transaction, P], R]) -> Callable[Concatenate[Ledger, P], R]:
    """Return the method that does this with a consistent view of the ledger."""

    @wraps(do)
    def method(ledger: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with ledger.read() as tx:
            return do(tx, *args, **kwargs)

    return method


def writing(
    do: Callable[Concatenate[Transaction, P], R], *, durable: bool = False
) -> Callable[Concatenate[Ledger, P], R]:
    """Return the method that does this in one write transaction; `durable` as in `write`."""

    @wraps(do)
    def method(ledger: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with ledger.write(durable=durable) as tx:
            return do(tx, *args, **kwargs)

    return method


class Ledger:
    """Scores, leases, submissions and rounds of one studies folder, in one SQLite file.

    Safe for any number of threads and processes at once. Every method is one transaction:
    it happens whole or not at all. What it does is said where its function is defined, which
    takes an open transaction in place of the ledger: several of them can be one transaction
    in ``with ledger.write() as tx``.

    Parameters
    ----------
    path
        The file; made if missing, brought up to date if of the version before.
    budget
        Fraction of the volumes to review in a round, for rounds opened from here.
    lease_minutes
        How long a volume stays with its holder.
    skip_minutes
        How long a holder gets others before one that was skipped; default `lease_minutes`.
    timeout_s
        How long to wait for another process's transaction.
    clock
        UTC seconds since 1970.
    audited
        Whether what is done goes into the audit trail; not where a store is made from files.

    Raises
    ------
    LedgerFileError
        From every method: the file is locked, full, read-only, damaged, of another version,
        or on a network file system; the subclass and the message say which and what to do.
    """

    seen_by = ""
    """Key of the only holder whose view this is; empty: all of it."""

    def __init__(
        self,
        path: str | Path,
        *,
        budget: float = 0.05,
        lease_minutes: float = 90.0,
        skip_minutes: float | None = None,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
        audited: bool = True,
    ) -> None:
        self._db = Database(path, timeout_s)
        self._budget = budget
        self._lease_s = 60 * lease_minutes
        self._skip_s = 60 * (lease_minutes if skip_minutes is None else skip_minutes)
        self._clock, self._audited = clock, audited
        self.path = self._db.path

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a consistent view; waits for nobody and holds up nobody."""
        with self._db.read() as connection:
            yield self._transaction(connection)

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Transaction]:
        """Open a write transaction: committed at the end, rolled back on any exception.

        ``durable`` also waits until the disk has it.
        """
        with self._db.write(durable=durable) as connection:
            yield self._transaction(connection)

    @contextmanager
    def preview(self) -> Iterator[Transaction]:
        """Open a write transaction that is rolled back: to see what would follow."""
        with self._db.write(keep=False) as connection:
            yield self._transaction(connection)

    def as_seen(self, holder: str) -> Ledger:
        """Return what a holder (key) may see of this ledger, to be read alone.

        Others' readings of gold cases are not in it, see :func:`~atlas8k.store.gold.views`.
        """
        return _AsSeen(self, holder)

    def next_number(self) -> int:
        """Return a number for a submission, which its file says before it is recorded.

        No two threads of this process get the same one. Another process may use it first:
        :func:`~atlas8k.store.submissions.submit` then raises :class:`NumberTakenError`.
        """
        with self.read() as tx:
            last: int = tx.value("SELECT max(id) FROM submission") or 0
        return self._db.next_number(last)

    def data_version(self) -> tuple[int, int]:
        """Return something that changes with every transaction of anybody; microseconds."""
        return self._db.data_version()

    def _transaction(self, connection: sqlite3.Connection) -> Transaction:
        now, given = self._clock(), (self._budget, self._lease_s, self._skip_s)
        return Transaction(connection, self.path, now, *given, self._audited)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._db.close()

    def backup(self, target: str | Path) -> Path:
        """Write a copy that is one moment's state, while others go on writing.

        The copy is checked, then appears under its name complete or not at all.

        Raises
        ------
        LedgerFileError
            The target cannot be written; what was there before is still there.
        """
        return write_backup(self._db, Path(target))

    # Volumes

    def sync_volumes(self, volumes_now: Iterable[str | VolumeEntry]) -> tuple[int, int]:
        """Note which volumes there are now; returns how many appeared or changed, and vanished.

        Vanished volumes keep their history and are as before when they come back. Nothing
        is written when nothing changed.
        """
        with self.read() as tx:
            new, gone = volumes.difference(tx, volumes_now)
        if new or gone:
            with self.write() as tx:
                volumes.add(tx, new)
                volumes.remove(tx, gone)
                scores.mark_complete(tx)
        return len(new), len(gone)

    add_volumes = writing(volumes.add)
    status = reading(volumes.status)
    is_known = reading(volumes.is_known)
    fingerprints = reading(volumes.fingerprints)
    statuses = reading(volumes.statuses)
    submitted = reading(volumes.is_submitted)
    counts = reading(volumes.counts)
    to_review = reading(volumes.to_review)

    exclude = writing(usability_.exclude, durable=True)
    include = writing(usability_.include, durable=True)
    judge_content = writing(usability_.judge_content, durable=True)
    not_usable = reading(usability_.not_usable)
    usability = reading(usability_.history)
    restore_decisions = writing(usability_.restore_decisions, durable=True)

    # Scores and the priority list

    register_model_version = writing(scores.register, durable=True)
    model_version_detail = reading(scores.model_version_detail)
    last_model_version = reading(scores.last_model_version)
    record_score = writing(scores.record_score)
    peak_memory = reading(scores.peak_memory)
    costs = reading(scores.costs)
    record_failure = writing(scores.record_failure)
    retry_failures = writing(scores.retry_failures)
    stale = reading(scores.stale)
    failures = reading(scores.failures)
    progress = reading(scores.progress)
    explanation = reading(scores.explanation)
    familiar = reading(scores.familiar)

    ranking_model_version = reading(ranking_.ranking_model_version)
    rank = reading(ranking_.rank)
    ranked_by = reading(ranking_.current)
    set_ranking = writing(ranking_.set_ranking, durable=True)
    propose_ranking = writing(ranking_.propose_ranking, durable=True)
    rank_all_organs = writing(ranking_.rank_all_organs, durable=True)
    ranking = reading(ranking_.listing)
    sizes = reading(ranking_.sizes)
    measured_rankings = reading(ranking_.measured_rankings)

    set_selection = writing(selections.set_selection, durable=True)
    selection = reading(selections.current)
    candidates = reading(selections.candidates)

    # Leases

    next_sample = writing(queue.next_sample)
    next_review = writing(queue.next_review)
    lease = writing(leases_.lease)
    renew = writing(leases_.renew)
    release = writing(leases_.release)
    leases = reading(leases_.running)
    hides_first = reading(leases_.hides_first)
    read_twice = reading(leases_.read_twice)
    set_gold = writing(gold_.set_volumes, durable=True)
    gold = reading(gold_.volumes)
    gold_seen = reading(gold_.seen)
    offers = reading(leases_.offers)
    given = reading(leases_.given)
    close_again = writing(leases_.close_again, durable=True)

    # Submissions

    submission_context = reading(submissions_.context)
    same_again = reading(submissions_.same_again)
    submit = writing(submissions_.submit, durable=True)
    submission = reading(submissions_.get)
    submissions = reading(submissions_.of_volume)
    submitted_by = reading(submissions_.of_holders)
    notes = reading(submissions_.notes)
    kinds_of_error = reading(submissions_.kinds_of_error)
    current_submission = reading(submissions_.current)
    changes = reading(provenance.changes)

    resolve = writing(decisions.resolve, durable=True)
    accept = writing(decisions.accept, durable=True)
    choose = writing(decisions.choose, durable=True)
    restore = writing(decisions.restore, durable=True)
    reopen = writing(decisions.reopen, durable=True)
    hand_back = writing(decisions.hand_back, durable=True)
    ask_again = writing(decisions.ask_again, durable=True)
    reviews = reading(reviews_.reviews)
    agreements = reading(reviews_.agreements)

    # The sweep

    sweep_seed = reading(sweeps.seed)
    ensure_sweep_seed = writing(sweeps.ensure_seed, durable=True)
    sweep_lines = reading(sweeps.lines)
    sweep_waiting = reading(sweeps.waiting)
    sweep_look = writing(sweeps.look, durable=True)
    sweep_undo = writing(sweeps.undo, durable=True)
    sweep_flags = reading(sweeps.flags)

    # What is drawn and not submitted

    drawing = reading(drawings_.find)
    drawings = reading(drawings_.of_person)
    save_drawing = writing(drawings_.save, durable=True)
    restore_drawing = writing(drawings_.restore, durable=True)
    remove_drawing = writing(drawings_.remove, durable=True)
    drawing_files = reading(drawings_.files)
    note_assistance = writing(assistance_.note, durable=True)
    assistance = reading(assistance_.of)
    helped = reading(assistance_.of_submission)

    # Labels

    set_sources = writing(provenance.set_sources, durable=True)
    sources = reading(provenance.sources)
    sources_with = reading(provenance.sources_with)
    sources_of = reading(provenance.sources_of)
    dataset_organs = reading(provenance.dataset_organs)
    public_organs = reading(provenance.public_organs)
    revised_organs = reading(provenance.revised_organs)
    labels = reading(label_files.labels)
    findings = reading(checks.of_volume)
    current_findings = reading(checks.current)
    label_noise = reading(checks.noise)
    quality_seen = reading(quality.seen)
    quality_mark = reading(quality.mark)

    # Rounds

    rounds = reading(rounds_.history)
    budget = reading(rounds_.budget)
    begin_round = writing(plans.begin_round, durable=True)
    plan = reading(plans.get)
    close_round = writing(rounds_.close, durable=True)
    reopen_round = writing(rounds_.reopen, durable=True)
    campaign_settings = reading(rounds_.campaign_settings)
    set_campaign = writing(rounds_.set_campaign, durable=True)
    worked = reading(submissions_.worked)
    note_training = writing(rounds_.note_training, durable=True)
    trainings = reading(rounds_.trainings)

    # What pages show

    listed = reading(overview.listed)
    states = reading(overview.states)
    sources_there = reading(overview.sources)
    distribution = reading(overview.distribution)
    mean_figures = reading(overview.mean_figures)
    seconds_each = reading(overview.seconds_each)
    annotators = reading(overview.annotators)
    campaign_mark = reading(overview.campaign_mark)

    # The audit trail

    note = writing(audit_trail.note, durable=True)
    note_seen = writing(audit_trail.note_seen)
    note_start = writing(audit_trail.note_start, durable=True)
    audit_head = reading(audit_trail.head)


class _AsSeen(Ledger):
    """A ledger as one holder sees it."""

    def __init__(self, ledger: Ledger, holder: str) -> None:
        self.__dict__.update(ledger.__dict__)
        self.seen_by = holder

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with super().read() as tx:
            made = gold_.views(tx, self.seen_by)
            for view in made:
                tx.run(view)
            yield tx  # an error rolls the views back
            for table in gold_.SHADOWED if made else ():
                tx.run(f"DROP VIEW temp.{table}")

    def write(self, *, durable: bool = False) -> NoReturn:
        raise LedgerError("what somebody sees of a ledger is read alone")
