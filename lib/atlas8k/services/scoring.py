"""Scoring: predict what is stale, keep sizes and pseudo labels; and again where CTs appear."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Protocol

from atlas8k.core.errors import Atlas8kError, CheckpointError, PredictionError, VolumeError
from atlas8k.core.files import only_one
from atlas8k.core.grid import Grid
from atlas8k.core.rankings import EXPECTED_ERROR, PAIRWISE_DICE
from atlas8k.services.context import Context
from atlas8k.services.device_lock import Turn
from atlas8k.services.errors import NotFoundError, UpstreamError
from atlas8k.services.failures import IN_A_ROW, Failures, blame_of
from atlas8k.services.prediction.answers import Answers
from atlas8k.services.prediction.engine import ReadCT, device
from atlas8k.services.scored import Scored
from atlas8k.store import Progress

logger = logging.getLogger(__name__)


ARCHIVE_WAIT_S = 1800.0
ARCHIVE_PAUSE_S = 2.0
AHEAD = 2
"""CTs that are read, and results that are kept, while a GPU predicts another."""
Report = Callable[[Progress, float, int], None]
Made = Callable[[], tuple[Grid, Answers, str]]


def log_report(progress: Progress, seconds_each: float, left: int) -> None:
    """Log the progress."""
    logger.info(
        "scored %d of %d, %d failed, %.0f volumes an hour, %s left",
        progress.scored,
        progress.total,
        progress.failed,
        3600 / max(seconds_each, 1e-3),
        duration(seconds_each * left),
    )


class Workers(Protocol):
    """Whoever predicts volumes and has the results kept."""

    def outcomes(self, todo: Sequence[str], model_version: str) -> Iterator[str | None]:
        """Predict volumes under a model version, in any order.

        Yields
        ------
        str or None
            Of each volume once it is in the store ``"scored"``, ``"failed"`` or
            ``"set_aside"``; ``None``, as the last: other networks are served now.
        """


class ThisProcess:
    """Predicts one volume after the other with the networks of a context.

    Parameters
    ----------
    ahead
        So many CTs are read beside the next one, and so many results made and kept while the
        next CT is predicted, so that the networks' device does not wait. By default
        :data:`AHEAD` with a GPU, and none where the processor has to do all of it.
    """

    def __init__(self, context: Context, ahead: int | None = None) -> None:
        self._context, self._ahead = context, ahead

    def outcomes(self, todo: Sequence[str], model_version: str) -> Iterator[str | None]:
        """See :class:`Workers`."""
        self._failures = Failures(self._context, model_version)
        ahead = self._ahead
        if ahead is None:
            ahead = AHEAD if device(self._context.settings).startswith("cuda") else 0
        if ahead:
            yield from self._overlapped(todo, model_version, ahead)
        else:
            yield from self._one_by_one(todo, model_version)
        self._failures.settle()

    def _one_by_one(self, todo: Sequence[str], model_version: str) -> Iterator[str | None]:
        left = list(todo)
        while left:
            volume, started = self._next(left), time.monotonic()
            try:
                path = self._admitted(volume)
                if path is None:
                    yield "set_aside"
                    continue
                made = self._context.engine.begin_answers(path, Turn.SCORING, volume)
                taken = partial(_since, started)
            except FAILURES as err:
                self._failures.failed(volume, why_of(err), blame_of(err))
                yield "failed"
                continue
            yield self._kept(volume, model_version, made, taken)

    def _next(self, left: list[str]) -> str:
        """Take the next volume: the smallest, while it may be the size that networks fail at."""
        size = self._context.studies.size
        volume = min(left, key=size) if self._failures.suspected else left[0]
        left.remove(volume)
        return volume

    def _overlapped(
        self, todo: Sequence[str], model_version: str, ahead: int
    ) -> Iterator[str | None]:
        others, started, ended = False, time.monotonic(), threading.Event()
        left = list(todo)
        self._failures.most = IN_A_ROW + 2 * (ahead + 1)  # so many are begun before one is known
        reading: deque[tuple[str, Future[tuple[Path, ReadCT] | None]]] = deque()
        finishing: deque[Future[str | None]] = deque()
        with (
            ThreadPoolExecutor(ahead, "read-ahead") as readers,
            ThreadPoolExecutor(ahead, "finish-scored") as finishers,
        ):
            try:
                while not others:
                    for _ in range(min(len(left), ahead + 1 - len(reading))):
                        volume = self._next(left)
                        reading.append((volume, readers.submit(self._read, volume, ended)))
                    if not reading:
                        break
                    volume, read = reading.popleft()
                    try:
                        if (found := read.result()) is None:
                            yield "set_aside"
                            continue
                        made = self._begun(volume, *found, finishing)
                    except FAILURES as err:
                        self._failures.failed(volume, why_of(err), blame_of(err))
                        yield "failed"
                        continue
                    # What is done beside another's prediction costs no time of its own.
                    taken, started = partial(float, _since(started)), time.monotonic()
                    finishing.append(
                        finishers.submit(self._kept, volume, model_version, made, taken)
                    )
                    del found, made  # nothing here keeps their arrays
                    while finishing and (len(finishing) > ahead or finishing[0].done()):
                        if (outcome := finishing.popleft().result()) is None:
                            others = True
                        else:
                            yield outcome
            finally:
                ended.set()
                for _, unread in reading:
                    unread.cancel()
            for one in finishing:
                if (outcome := one.result()) is None:
                    others = True
                else:
                    yield outcome
        if others:
            yield None

    def _begun(
        self, volume: str, path: Path, ct: ReadCT, finishing: Iterable[Future[str | None]]
    ) -> Made:
        """Have the networks predict; where memory is short, once more without those before."""
        begin = partial(self._context.engine.begin_answers, path, Turn.SCORING, volume, ct)
        try:
            return begin()
        except (PredictionError, MemoryError):
            if not (pending := [one for one in finishing if not one.done()]):
                raise
            wait(pending)
            return begin()

    def _read(self, volume: str, ended: threading.Event) -> tuple[Path, ReadCT] | None:
        path = self._admitted(volume, ended)
        return None if path is None else (path, self._context.engine.read(path))

    def _admitted(self, volume: str, ended: threading.Event | None = None) -> Path | None:
        """Return the file of a volume; ``None`` where people are to decide about it first."""
        path = image_of(self._context, volume, ended)
        return path if self._context.admit(volume) else None

    def _kept(
        self, volume: str, model_version: str, made: Made, taken: Callable[[], float]
    ) -> str | None:
        """Enter a volume's score; ``None``: other networks have predicted it."""
        context = self._context
        try:
            grid, answers, current = made()
            if current != model_version:
                return None
            scored = Scored.of(answers, grid, volume)
            # While the file is at hand, so that nobody waits for it at the next sample.
            context.studies.checksum(volume)
            scored.keep(context, volume, model_version, taken(), context.engine.peak_mb())
        except FAILURES as err:
            self._failures.failed(volume, why_of(err), blame_of(err))
            return "failed"
        self._failures.scored()
        return "scored"


def _since(started: float) -> float:
    return time.monotonic() - started


FAILURES = (VolumeError, PredictionError, NotFoundError, MemoryError)
"""What is wrong with one volume and keeps no other from being scored."""


def why_of(error: BaseException) -> str:
    """Return why a volume could not be scored, in words."""
    return f"memory is short ({error})" if isinstance(error, MemoryError) else str(error)


def image_of(context: Context, volume: str, ended: threading.Event | None = None) -> Path:
    """Return the file of an image; an archive that went away is waited for, for a while.

    Nobody waits any more once `ended` is set.
    """
    ended = ended or threading.Event()
    end, warned = time.monotonic() + ARCHIVE_WAIT_S, False
    while True:
        try:
            return context.studies.image_path(volume)
        except UpstreamError as err:
            if ended.is_set() or time.monotonic() > end:
                raise
            if not warned:
                logger.warning("%s; scoring goes on when it answers", err)
            warned = True
            ended.wait(ARCHIVE_PAUSE_S)


class Scoring:
    """Predict stale volumes: attention sizes into the store, label maps as pseudo labels.

    A volume is stale while the ledger has neither a score nor a failure for it under the
    networks served now. Networks published during a run are taken up by the same run.

    Parameters
    ----------
    report
        Called after every volume with the progress, the seconds one takes on average and
        how many are left in this run; by default it goes to the log.
    workers
        Who predicts; this process by default.
    """

    def __init__(
        self, context: Context, report: Report | None = None, workers: Workers | None = None
    ) -> None:
        self._context = context
        self._report = report or log_report
        self._workers = workers or ThisProcess(context)

    def run(self) -> dict[str, int]:
        """Score until nothing is stale.

        Returns
        -------
        dict
            ``scored``, ``failed`` and ``set_aside`` in this run.

        Raises
        ------
        CheckpointError
            Not every network of the served set can be loaded: a score would not be one
            of the set. One fails at every CT. Or the ranking in use needs more than is known
            of them.
        DeviceLostError
            The GPU does not answer any more. What is scored is kept, and no volume counts as
            failed.
        """
        with only_one(self._context.state / "scoring.lock") as alone:
            if not alone:
                logger.info("scoring runs already; nothing started")
                return {"scored": 0, "failed": 0, "set_aside": 0}
            return self._run()

    def _run(self) -> dict[str, int]:
        context, counts = self._context, {"scored": 0, "failed": 0, "set_aside": 0}
        while True:
            context.sync(thorough=True)
            model_version = context.model_version()
            self._check_ranking()
            todo = context.ledger.stale(model_version)
            if not todo:
                break
            logger.info("scoring %d volumes under %s", len(todo), model_version)
            started = time.monotonic()
            outcomes = self._workers.outcomes(todo, model_version)
            for done, outcome in enumerate(outcomes, start=1):
                if outcome is None:
                    logger.info("new networks are served; scoring goes on with them")
                    break
                counts[outcome] += 1
                progress = context.ledger.progress(model_version)
                self._report(progress, (time.monotonic() - started) / done, len(todo) - done)
        logger.info("nothing is stale: %s", ", ".join(f"{n} {how}" for how, n in counts.items()))
        return counts

    def _check_ranking(self) -> None:
        """Refuse a ranking that these networks give no figure for, before anything is predicted."""
        served, ranking = self._context.models.served(), self._context.ledger.ranked_by()
        if ranking == PAIRWISE_DICE and len(served.checkpoints) < 2:
            raise CheckpointError(
                served.folder,
                f"ranking {PAIRWISE_DICE} compares networks, and one alone has nobody to differ "
                "from; start with another, such as --conf ranking salient",
            )
        learnt = served.quality is not None and served.quality.fits(len(served.checkpoints))
        if ranking == EXPECTED_ERROR and not learnt:
            raise CheckpointError(
                served.folder,
                f"ranking {EXPECTED_ERROR} needs networks whose errors were learnt, and as many of "
                "them as then; start with another, such as --conf ranking salient",
            )


def duration(seconds: float) -> str:
    """Return ``"2 h 05 min"``, ``"3 min"``, ``"20 s"``."""
    minutes = int(seconds / 60 + 0.5)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"


class NewVolumes:
    """Looks for volumes without a score now and then, once others have been scored.

    The first scoring of a folder may take days and is asked for. What comes later is found here
    and goes the same way: the one scoring there may be is started, unless it runs. Volumes that
    a run has left as they were (it was stopped, or it ended) are not tried again by themselves.

    Parameters
    ----------
    start
        Starts a scoring, unless one runs.
    runs
        Whether one runs.
    """

    def __init__(
        self,
        context: Context,
        start: Callable[[], object],
        runs: Callable[[], bool],
    ) -> None:
        self._context, self._start, self._runs = context, start, runs
        self._tried: set[tuple[str, str]] = set()
        self._stop = threading.Event()

    def look(self) -> int:
        """Start a scoring where there is something new; return how many volumes are."""
        if self._runs():
            return 0
        context = self._context
        context.sync()
        model_version = context.model_version()
        progress = context.ledger.progress(model_version)
        if not progress.scored or progress.complete:
            return 0
        stale = {(model_version, volume) for volume in context.ledger.stale(model_version)}
        new = stale - self._tried
        if not new:
            return 0
        self._tried |= stale
        logger.info("%d volumes have no score; they are scored now", len(stale))
        self._start()
        return len(new)

    def watch(self, every_s: float) -> None:
        """Look every so often, in a thread, until :meth:`stop`; 0: never."""
        if every_s > 0:
            threading.Thread(
                target=self._watch, args=(every_s,), name="new-volumes", daemon=True
            ).start()

    def stop(self) -> None:
        """End it soon."""
        self._stop.set()

    def _watch(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            try:
                self.look()
            except (Atlas8kError, OSError) as err:
                logger.warning("no look for new volumes: %s", err)
