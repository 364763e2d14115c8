"""Scoring method `attention`: predict what is stale, keep sizes and pseudo labels."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from atlas8k.errors import CheckpointError, PredictionError, VolumeError
from atlas8k.ledger import Progress
from atlas8k.organs import ORGAN_IDS
from atlas8k.server.answers import Answers
from atlas8k.server.context import Context
from atlas8k.server.device_lock import Turn
from atlas8k.server.errors import NotFoundError, UpstreamError
from atlas8k.server.studies.disk import only_one
from atlas8k.volume import Grid

logger = logging.getLogger(__name__)


ARCHIVE_WAIT_S = 1800.0
ARCHIVE_PAUSE_S = 2.0
Report = Callable[[Progress, float, int], None]


def log_report(progress: Progress, seconds_each: float, left: int) -> None:
    """Progress as a line of the log."""
    logger.info(
        "scored %d of %d, %d failed, %.0f volumes an hour, %s left",
        progress.scored,
        progress.total,
        progress.failed,
        3600 / max(seconds_each, 1e-3),
        duration(seconds_each * left),
    )


class AttentionScoring(ScoringMethod):
    """Attention sizes into the ledger, pseudo labels into the datastore, for stale volumes.

    A volume is stale while the ledger has neither a score nor a failure for it under the
    networks served now. Networks published during a run are taken up by the same run.

    Parameters
    ----------
    report
        Called after every volume with the progress, the seconds one takes on average and
        how many are left in this run; by default it goes to the log.
    """

    def __init__(self, context: Context, report: Report | None = None) -> None:
        super().__init__("Attention size (Eq. 4) of every volume; pseudo labels as a start")
        self._context = context
        self._report = report or log_report

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score until nothing is stale.

        Returns
        -------
        dict
            ``scored``, ``failed`` and ``set_aside`` in this run.

        Raises
        ------
        CheckpointError
            Not every network of the served set can be loaded: a score would not be one
            of the set.
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
            signature = context.signature()
            todo = context.ledger.stale(signature)
            if not todo:
                break
            logger.info("scoring %d volumes under %s", len(todo), signature)
            started = time.monotonic()
            for done, volume in enumerate(todo, start=1):
                outcome = self._score(volume, signature)
                if outcome is None:
                    logger.info("new networks are served; scoring goes on with them")
                    break
                counts[outcome] += 1
                progress = context.ledger.progress(signature)
                self._report(progress, (time.monotonic() - started) / done, len(todo) - done)
        logger.info("nothing is stale: %s", ", ".join(f"{n} {how}" for how, n in counts.items()))
        return counts

    def _score(self, volume: str, signature: str) -> str | None:
        """``"scored"``, ``"failed"``, ``"set_aside"``; ``None``: other networks are served now."""
        context, started = self._context, time.monotonic()
        try:
            path = self._image(volume)
            if not context.admit(volume):
                return "set_aside"
            grid, answers, current = context.engine.answers(path, Turn.SCORING, volume)
            if current != signature:
                return None
            check_complete(answers)
            # While the file is at hand, so that nobody waits for it at the next sample.
            context.datastore.checksum(volume)
            self._keep_label(volume, grid, answers, signature)
        except (VolumeError, PredictionError, NotFoundError) as err:
            logger.warning("%s cannot be scored: %s", volume, err)
            context.ledger.record_failure(volume, signature, str(err))
            return "failed"
        context.ledger.record_score(
            volume,
            signature,
            answers.organ_scores(),
            seconds=time.monotonic() - started,
            explanation=answers.noted(grid, volume),
        )
        return "scored"

    def _image(self, volume: str) -> Path:
        """File of an image; an archive that went away is waited for, for a while."""
        end, told = time.monotonic() + ARCHIVE_WAIT_S, False
        while True:
            try:
                return self._context.datastore.image_path(volume)
            except UpstreamError as err:
                if time.monotonic() > end:
                    raise
                if not told:
                    logger.warning("%s; scoring goes on when it answers", err)
                told = True
                time.sleep(ARCHIVE_PAUSE_S)

    def _keep_label(
        self,
        volume: str,
        grid: Grid,
        answers: Answers,
        signature: str,
    ) -> None:
        info = {
            "model": "ensemble",
            "model_signature": signature,
            "attention_ml": {name: round(ml, 3) for name, ml in answers.sizes.attention_ml.items()},
            # 3D Slicer reads the names of a stored label here.
            "params": {"label_names": dict(ORGAN_IDS)},
        }
        self._context.desk.keep_pseudo(volume, answers.label_on(grid), grid, info)


def check_complete(answers: Answers) -> None:
    """Raise :class:`CheckpointError` where a network of the set had no part in it."""
    for name, why in answers.failures.items():
        raise CheckpointError(
            name, f"no score without every network of the set, and this one failed: {why}"
        )


def duration(seconds: float) -> str:
    """``"2 h 05 min"``, ``"3 min"``, ``"20 s"``."""
    minutes = int(seconds / 60 + 0.5)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"
