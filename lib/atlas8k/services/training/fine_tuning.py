"""Fine-tune the active networks on fused labels; make them active if they are no worse."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from atlas8k.campaign import learning
from atlas8k.core.errors import CheckpointError, SettingsError, TrainingError
from atlas8k.core.files import only_one, read_json, write_json
from atlas8k.models.sets import ServedSet
from atlas8k.services.context import Context
from atlas8k.services.device_lock import Turn
from atlas8k.services.errors import ConflictError, RequestError
from atlas8k.services.prediction.engine import device, ensemble_settings
from atlas8k.services.training.cases import Seen, cases, unlabeled
from atlas8k.services.training.progress import Shown, length
from atlas8k.services.training.publishing import OFF, settle
from atlas8k.training import ranks
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import Work, fine_tune
from atlas8k.training.resume import state_folder, times_added
from atlas8k.training.tracking import Tracker

logger = logging.getLogger(__name__)

STATE = "training-state"
"""Folder of a training that has not ended, beside the networks."""


class FineTuning:
    """Fine-tune every network of the active set, and publish those that are no worse.

    The published set has a model version of its own, so every score is stale from then on.
    A training that fails or is stopped changes nothing. Started again with the same settings it
    goes on where it was, with the labels that have come since (:mod:`atlas8k.training.resume`).

    Parameters
    ----------
    context
        The studies folder, the networks, the device.
    tracking_uri
        MLflow server that gets the curves too; empty for none.

    Raises
    ------
    SettingsError
        ``--conf training`` is not understood.
    """

    def __init__(self, context: Context, tracking_uri: str = "") -> None:
        self._context, self._tracking_uri = context, tracking_uri
        self._config()

    def config(self) -> dict[str, Any]:
        """Return what a client may set, with the values taken otherwise."""
        settings = self._context.settings
        return {
            "max_epochs": settings.max_epochs,
            "steps_per_epoch": settings.steps_per_epoch,
            # Not a list: 3D Slicer would offer it as a choice of one.
            "networks": "all",
        }

    def stats(self) -> dict[str, Any]:
        """Return the last training or the one that runs, in the fields 3D Slicer reads."""
        try:
            return read_json(self._stats)
        except (OSError, ValueError):
            return {}

    @property
    def _stats(self) -> Path:
        return self._context.models.root / learning.STATS

    def _networks(self) -> tuple[str, ...]:
        try:
            return tuple(self._context.models.served().checkpoints)
        except CheckpointError:
            return ()

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train; return :meth:`stats`.

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
        if not os.access(self._context.models.root, os.W_OK):
            raise TrainingError(
                f"{self._context.models.root}: the server may not write there; trained networks "
                "go into that folder"
            )
        with only_one(self._context.models.root / ".training.lock") as alone:
            if not alone:
                raise ConflictError("a training of these networks runs already")
            found = cases(self._context, pseudo=config.pseudo_weight > 0)
            return self._train(config, names, found)

    def _config(self, **more: Any) -> TrainingConfig:
        """Read the settings of a training.

        Raises
        ------
        SettingsError
            ``--conf training`` is not understood.
        """
        settings = self._context.settings
        own = {"epochs": "max_epochs", "steps_per_epoch": "steps_per_epoch", "device": "device"}
        own["pseudo_weight"] = "pseudo_weight"
        for key in settings.training.keys() & own.keys():
            raise SettingsError(f"--conf training: {key} is set by --conf {own[key]}")
        given = {"pseudo_weight": settings.pseudo_weight, **settings.training, **more}
        try:
            return TrainingConfig.fine_tuning(**given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            known = ", ".join(sorted(set(TrainingConfig.model_fields) - set(own)))
            raise SettingsError(
                f"--conf training: {where}: {first['msg']}; there are {known}"
            ) from error

    def check(self, request: dict[str, Any]) -> None:
        """Raise :class:`RequestError` where a training cannot be meant so."""
        self._parse(request)

    def _parse(self, request: dict[str, Any]) -> tuple[TrainingConfig, tuple[str, ...]]:
        settings = self._context.settings
        names = chosen(request.get("networks", "all"), self._networks())
        return (
            self._config(
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
        started, served = time.time(), self._context.models.served()
        stats: dict[str, Any] = {
            "model": "atlas8k",
            "start_ts": int(started),
            "epoch": 0,
            "total_epochs": length(config) * len(names),
            "best_metric": 0.0,
            "cases": len(found),
            "trained_from": served.model_version,
        }
        if not self._context.settings.gate:
            logger.warning(OFF)
        try:
            write_json(self._stats, stats)
            self._run(config, names, found, served, stats)
        except Exception as error:
            reason = str(error)
            if isinstance(error, OSError):
                reason = (
                    f"{self._context.models.root}: cannot be written ({error}); see that there is "
                    "space and that the server may write there"
                )
            # 3D Slicer takes a training for ended when this field is there.
            stats |= {
                "total_time": round(time.time() - started, 1),
                "message": f"failed, {self._served(served)} is served still: {reason}",
            }
            with contextlib.suppress(OSError):
                write_json(self._stats, stats)
            if isinstance(error, OSError):
                raise TrainingError(reason) from error
            raise
        stats |= {"total_time": round(time.time() - started, 1), "seconds_left": 0}
        try:
            write_json(self._stats, stats)
        except OSError as error:  # the networks are where they belong: that is no failure
            logger.error("%s cannot be written (%s): %s", self._stats, error, stats["message"])
        return stats

    def _served(self, before: ServedSet) -> str:
        """Model version of what is served now, which somebody may have changed since `before`."""
        try:
            return self._context.models.served().model_version
        except CheckpointError:
            return before.model_version

    def _run(
        self,
        config: TrainingConfig,
        names: tuple[str, ...],
        found: list[TrainingCase],
        served: ServedSet,
        stats: dict[str, Any],
    ) -> None:
        """Train and settle what becomes of it; `stats` is kept up to date."""
        context = self._context
        seen = Seen(context.models.root)
        folder = state_folder(
            context.models.root / STATE, served.checkpoints, names, found, config, seen
        )
        logger.info(
            "fine-tuning %s on labels of %d volumes, %s of %d steps each",
            ", ".join(names),
            len(found),
            f"epochs for {config.minutes:g} minutes"
            if config.minutes
            else f"{config.epochs} epochs",
            config.steps_per_epoch,
        )
        described = {
            "networks": ", ".join(names),
            "cases": len(found),
            "trained_from": served.model_version,
            **config.model_dump(mode="json"),
        }
        with (
            Tracker(context.models.root, self._tracking_uri, described) as tracker,
            context.device.turn(Turn.TRAINING) as held,
        ):
            work = Work(served.checkpoints, found, config, names, folder, seen)
            trained = fine_tune(
                **ranks.broadcast(work)._asdict(),
                on_epoch=Shown(self._stats, stats, names, config, tracker).epoch,
                shared_device=held,
            )
            stats |= settle(
                context.models,
                served,
                {name: trained[name] for name in names},
                found,
                config,
                gate=context.settings.gate,
                margin=context.settings.gate_margin,
                overlap=context.settings.window_overlap,
                ensemble=ensemble_settings(context.settings),
                place=held,
                pseudo=unlabeled(context),
                added=times_added(folder),
            )
            tracker.result(stats["message"])
        shutil.rmtree(folder, ignore_errors=True)


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
    """Read a whole number of a request, from 1 to `highest`."""
    value = request.get(key, default)
    try:
        number = int(value)
        if isinstance(value, bool) or number != float(value) or not 1 <= number <= highest:
            raise ValueError
    except (TypeError, ValueError):
        raise RequestError(f"{key}: {value!r}; a whole number from 1 to {highest}") from None
    return number
