"""What a running training shows: 3D Slicer's fields, the log, curves."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from atlas8k.core.files import write_json
from atlas8k.services.scoring import duration
from atlas8k.training.config import TrainingConfig
from atlas8k.training.loop import Progress
from atlas8k.training.tracking import Tracker

logger = logging.getLogger(__name__)

HUNDREDTHS = 100


def length(config: TrainingConfig) -> int:
    """Epochs of a network as they are shown; hundredths of its time where the clock ends it.

    How many epochs fit into the time is known at its end, and clients want a whole number.
    """
    return config.epochs if config.minutes is None else HUNDREDTHS


class Shown:
    """Takes every epoch's progress and writes it down.

    Parameters
    ----------
    stats
        Statistics of the training; kept up to date, and in `path` too.
    names
        Networks in the order they are trained in.
    """

    def __init__(
        self,
        path: Path,
        stats: dict[str, Any],
        names: tuple[str, ...],
        config: TrainingConfig,
        tracker: Tracker,
    ) -> None:
        self._path, self._stats = path, stats
        self._names, self._config, self._tracker = names, config, tracker
        self._best: dict[str, float] = {}

    def epoch(self, progress: Progress) -> None:
        """Note an epoch."""
        name, dsc, stats = progress.network, progress.mean_dsc, self._stats
        measured = "not measured"
        if dsc is not None:
            self._best[name] = max(dsc, self._best.get(name, 0.0))
            stats["best_metric"] = sum(self._best.values()) / len(self._best)
            stats["dsc"] = {o: round(value, 4) for o, value in progress.dsc.items()}
            organs = ", ".join(f"{o} {value:.3f}" for o, value in progress.dsc.items())
            measured = f"{dsc:.3f} ({organs})"
        behind = len(self._names) - 1 - self._names.index(name)
        # Other networks take another time; it is said to be about so long.
        left = progress.seconds_left + behind * (progress.seconds + progress.seconds_left)
        stats |= {
            "epoch": self._names.index(name) * length(self._config) + self._done(progress),
            "network": name,
            "loss": round(progress.loss, 5),
            "seconds_left": round(left),
            "updated_ts": int(time.time()),
        }
        write_json(self._path, stats)
        self._tracker.epoch(progress)
        logger.info(
            "%s: epoch %d of %s, loss %.4f, DSC %s, about %s left%s",
            name,
            progress.epoch,
            f"{self._config.minutes:g} minutes" if progress.epochs is None else progress.epochs,
            progress.loss,
            measured,
            duration(progress.seconds_left),
            f" for this network, {duration(left)} for all" if behind else "",
        )

    @staticmethod
    def _done(progress: Progress) -> int:
        """Of :func:`length`."""
        return progress.epoch if progress.epochs else round(HUNDREDTHS * progress.fraction)
