"""Trainer `atlas8k`: the served networks fine-tuned on submitted labels, then served."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from atlas8k.errors import CheckpointError, TrainingError
from atlas8k.organs import ORGAN_NAMES
from atlas8k.server.context import Context, only_one
from atlas8k.server.device_lock import Turn
from atlas8k.server.engine import device
from atlas8k.server.errors import ConflictError, RequestError
from atlas8k.server.files import read_json, write_json
from atlas8k.server.scoring import duration
from atlas8k.server.studies.catalogue import FINAL
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import fine_tune
from atlas8k.training.loop import Progress
from atlas8k.volume import read_label

logger = logging.getLogger(__name__)

STATS = "train_stats.json"


class FineTuning(TrainTask):
    """Fine-tunes every network of the served set and publishes the result as a new one.

    The published set has a signature of its own, so every score is stale from then on.
    A training that fails or is stopped changes nothing.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("Fine-tune the three networks on submitted labels and serve them")
        self._context = context

    def config(self) -> dict[str, Any]:
        """What a client may set, with the values taken otherwise."""
        settings = self._context.settings
        return {
            "max_epochs": settings.max_epochs,
            "steps_per_epoch": settings.steps_per_epoch,
            # Not a list: 3D Slicer would offer it as a choice of one.
            "networks": "all",
        }

    def stats(self) -> dict[str, Any]:
        """The last training or the one that runs, in the fields 3D Slicer reads."""
        try:
            return read_json(self._stats)
        except (OSError, ValueError):
            return {}

    @property
    def _stats(self) -> Path:
        return self._context.store.root / STATS

    def _networks(self) -> tuple[str, ...]:
        try:
            return tuple(self._context.store.served().checkpoints)
        except CheckpointError:
            return ()

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Parameters
        ----------
        request
            ``max_epochs``, ``steps_per_epoch``, ``networks``: ``"all"``, or names in a
            list or with commas between them; the others are taken over as they are.

        Raises
        ------
        TrainingError
            Nothing submitted to train on.
        RequestError
            A parameter is not allowed.
        ConflictError
            A training of these networks runs already.
        """
        config, names = self._parse(request)
        with only_one(self._context.store.root / ".training.lock") as alone:
            if not alone:
                raise ConflictError("a training of these networks runs already")
            return self._train(config, names, cases(datastore))

    def check(self, request: dict[str, Any]) -> None:
        """Raise :class:`RequestError` where a training cannot be meant so."""
        self._parse(request)

    def _parse(self, request: dict[str, Any]) -> tuple[TrainingConfig, tuple[str, ...]]:
        settings = self._context.settings
        names = chosen(request.get("networks", "all"), self._networks())
        return (
            TrainingConfig(
                epochs=whole(request, "max_epochs", settings.max_epochs, 10_000),
                steps_per_epoch=whole(
                    request, "steps_per_epoch", settings.steps_per_epoch, 100_000
                ),
                device=device(settings),
            ),
            names,
        )

    def _train(
        self, config: TrainingConfig, names: tuple[str, ...], found: list[TrainingCase]
    ) -> dict[str, Any]:
        started, served = time.time(), self._context.store.served()
        stats: dict[str, Any] = {
            "model": "atlas8k",
            "start_ts": int(started),
            "epoch": 0,
            "total_epochs": config.epochs * len(names),
            "best_metric": 0.0,
            "cases": len(found),
            "trained_from": served.signature,
        }
        write_json(self._stats, stats)
        logger.info(
            "fine-tuning %s on %d submitted labels, %d epochs of %d steps each",
            ", ".join(names),
            len(found),
            config.epochs,
            config.steps_per_epoch,
        )
        best: dict[str, float] = {}

        def note(progress: Progress) -> None:
            name, dsc = progress.network, progress.mean_dsc
            if dsc is not None:
                best[name] = max(dsc, best.get(name, 0.0))
                stats["best_metric"] = sum(best.values()) / len(best)
            stats["epoch"] = names.index(name) * config.epochs + progress.epoch
            write_json(self._stats, stats)
            measured = "not measured" if dsc is None else f"{dsc:.3f}"
            logger.info(
                "%s: epoch %d of %d, loss %.4f, DSC %s, about %s left for this network",
                name,
                progress.epoch,
                config.epochs,
                progress.loss,
                measured,
                duration(progress.seconds_left),
            )

        with self._context.device.turn(Turn.TRAINING) as device_held:

            def give_way() -> bool:
                device_held.give_way()  # before every step
                return False

            trained = fine_tune(
                served.checkpoints,
                found,
                config,
                networks=names,
                on_epoch=note,
                should_stop=give_way,
            )
        signature = self._context.store.publish(
            {name: trained[name] for name in names},
            note=f"fine-tuned on {len(found)} submitted labels from {served.signature}",
        )
        # 3D Slicer takes a training for ended when this field is there.
        stats |= {"total_time": round(time.time() - started, 1), "model_signature": signature}
        write_json(self._stats, stats)
        logger.info("networks %s are served; all scores are stale", signature)
        return stats


def cases(datastore: Datastore) -> list[TrainingCase]:
    """The submitted labels, with the organs that each says something about.

    Raises
    ------
    TrainingError
        There is none.
    """
    found = []
    for image in datastore.get_labeled_images():
        info = datastore.get_label_info(image, FINAL)
        label_path = Path(datastore.get_label_uri(image, FINAL))
        # A label that came by other means than a client has nothing written down.
        present = info["present"] if "present" in info else organs_of(label_path)
        known = {*present, *info.get("absent", ())}
        organs = tuple(name for name in ORGAN_NAMES if name in known)
        if organs:
            found.append(
                TrainingCase(
                    name=image,
                    ct_path=Path(datastore.get_image_uri(image)),
                    label_path=label_path,
                    known_organs=organs,
                )
            )
    if not found:
        raise TrainingError("nothing to train on: submit a corrected label first")
    return found


def organs_of(label_path: Path) -> tuple[str, ...]:
    """Organs that have voxels in a label map; values that are no organ are left out."""
    return tuple(ORGAN_NAMES[i - 1] for i in np.unique(read_label(label_path).array) if 1 <= i <= 9)


def chosen(value: object, served: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the networks a request means, in the order they are trained in.

    Raises
    ------
    RequestError
        Not names, or one that is not served.
    """
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, list):
        raise RequestError("networks: all, or names of networks")
    if value in ([], ["all"]):
        return served
    unknown = [str(name) for name in value if name not in served]
    if unknown:
        raise RequestError(f"networks: no {', '.join(unknown)}; served are {', '.join(served)}")
    return tuple(name for name in served if name in value)


def whole(request: dict[str, Any], key: str, default: int, highest: int) -> int:
    """A whole number of a request, from 1 to `highest`."""
    value = request.get(key, default)
    try:
        number = int(value)
        if isinstance(value, bool) or number != float(value) or not 1 <= number <= highest:
            raise ValueError
    except (TypeError, ValueError):
        raise RequestError(f"{key}: {value!r}; a whole number from 1 to {highest}") from None
    return number
