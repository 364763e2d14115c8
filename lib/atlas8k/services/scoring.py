"""Scoring: predict what is stale, keep sizes and pseudo labels; and again where CTs appear."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from atlas8k.core.errors import Atlas8kError, CheckpointError, PredictionError, VolumeError
from atlas8k.core.files import only_one
from atlas8k.core.rankings import EXPECTED_ERROR, PAIRWISE_DICE
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.services.context import Context
from atlas8k.services.device_lock import Turn
from atlas8k.services.errors import NotFoundError, UpstreamError
from atlas8k.store import Progress

logger = logging.getLogger(__name__)


ARCHIVE_WAIT_S = 1800.0
ARCHIVE_PAUSE_S = 2.0
Report = Callable[[Progress, float, int], None]


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


class Scoring:
    """Predict stale volumes: attention sizes into the store, label maps as pseudo labels.

    A volume is stale while the ledger has neither a score nor a failure for it under the
    networks served now. Networks published during a run are taken up by the same run.

    Parameters
    ----------
    report
        Called after every volume with the progress, the seconds one takes on average and
        how many are left in this run; by default it goes to the log.
    """

    def __init__(self, context: Context, report: Report | None = None) -> None:
        self._context = context
        self._report = report or log_report

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
            of the set. Or the ranking in use needs more than is known of them.
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
            for done, volume in enumerate(todo, start=1):
                outcome = self._score(volume, model_version)
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

    def _score(self, volume: str, model_version: str) -> str | None:
        """Return ``"scored"``, ``"failed"``, ``"set_aside"``; ``None``: others are served."""
        context, started = self._context, time.monotonic()
        try:
            path = self._image(volume)
            if not context.admit(volume):
                return "set_aside"
            grid, answers, current = context.engine.answers(path, Turn.SCORING, volume)
            if current != model_version:
                return None
            for name, why in answers.failures.items():
                raise CheckpointError(
                    name, f"no score without every network of the set, and this one failed: {why}"
                )
            # While the file is at hand, so that nobody waits for it at the next sample.
            context.studies.checksum(volume)
            info = {
                "model": "ensemble",
                "model_version": model_version,
                "attention_ml": {
                    name: round(ml, 3) for name, ml in answers.sizes.attention_ml.items()
                },
                # 3D Slicer reads the names of a stored label here.
                "params": {"label_names": dict(ORGAN_IDS)},
            }
            context.label_service.keep_pseudo(volume, answers.label_on(grid), grid, info)
        except (VolumeError, PredictionError, NotFoundError, MemoryError) as err:
            why = f"memory is short ({err})" if isinstance(err, MemoryError) else str(err)
            logger.warning("%s cannot be scored: %s", volume, why)
            context.ledger.record_failure(volume, model_version, why)
            return "failed"
        context.ledger.record_score(
            volume,
            model_version,
            answers.organ_scores(),
            seconds=time.monotonic() - started,
            explanation=answers.noted(grid, volume),
            traits=answers.traits(),
            findings=answers.findings,
        )
        return "scored"

    def _image(self, volume: str) -> Path:
        """Return the file of an image; an archive that went away is waited for, for a while."""
        end, told = time.monotonic() + ARCHIVE_WAIT_S, False
        while True:
            try:
                return self._context.studies.image_path(volume)
            except UpstreamError as err:
                if time.monotonic() > end:
                    raise
                if not told:
                    logger.warning("%s; scoring goes on when it answers", err)
                told = True
                time.sleep(ARCHIVE_PAUSE_S)


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
        """Look every so often, in a thread that ends with the process; 0: never."""
        if every_s > 0:
            threading.Thread(
                target=self._watch, args=(every_s,), name="new-volumes", daemon=True
            ).start()

    def _watch(self, every_s: float) -> None:
        pause = threading.Event()
        while not pause.wait(every_s):
            try:
                self.look()
            except (Atlas8kError, OSError) as err:
                logger.warning("no look for new volumes: %s", err)
