"""The served networks of this process: loaded once, shared, swapped when a set is published."""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path
from typing import Any

import torch

from atlas8k.models.predict import Prediction, Predictor
from atlas8k.models.store import ModelStore, ServedSet
from atlas8k.server.device_lock import DeviceLock, Turn
from atlas8k.settings import Settings
from atlas8k.volume import Volume, read_ct

logger = logging.getLogger(__name__)

KEPT_BYTES = 1 << 30
"""A prediction is kept for the next request (`ensemble`, then `attention`) up to this size."""


class Engine:
    """Prediction of one CT at a time by whatever set is served now.

    Parameters
    ----------
    settings
        Device, window overlap and what belongs into the signature.
    store
        Where checkpoints lie; asked again for every request, so that a set published by
        a training process is served without a restart.
    lock
        Of the device, where other processes use it too.
    """

    def __init__(
        self, settings: Settings, store: ModelStore, lock: DeviceLock | None = None
    ) -> None:
        self._settings = settings
        self._store = store
        self._lock = threading.Lock()
        self._device = lock
        self._predictor: tuple[str, Predictor] | None = None
        self._last: tuple[tuple[object, ...], Prediction] | None = None

    def signature(self) -> str:
        """Signature under which a score made now would be kept."""
        return self._store.served().signature

    def predict(self, path: Path, turn: Turn = Turn.INFERENCE) -> tuple[Volume, Prediction, str]:
        """Read and predict one CT.

        Parameters
        ----------
        turn
            How urgent it is, where others wait for the device as well.

        Returns
        -------
        ct, prediction, signature
            The CT as read, the soft predictions and the signature they belong to.

        Raises
        ------
        VolumeError
            The CT cannot be used.
        CheckpointError
            A served checkpoint cannot be loaded; the set loaded before is not used
            instead, its scores would carry the wrong signature.
        """
        ct = read_ct(path)
        with self._lock:
            served = self._store.served()
            signature = served.signature
            stat = path.stat()
            key = (path, stat.st_size, stat.st_mtime_ns, signature)
            if self._last is not None and self._last[0] == key:
                return ct, self._last[1], signature
            with self._device.turn(turn) if self._device else contextlib.nullcontext():
                prediction = self._load(served).predict(ct)
            if prediction.probs.nbytes <= KEPT_BYTES:
                self._last = (key, prediction)
            return ct, prediction, signature

    def _load(self, served: ServedSet) -> Predictor:
        if self._predictor is None or self._predictor[0] != served.signature:
            logger.info("Loading networks %s", served.signature)
            self._predictor = self._last = None
            predictor = Predictor(
                served, device=device(self._settings), overlap=self._settings.window_overlap
            )
            self._predictor = (served.signature, predictor)
        return self._predictor[1]


def device(settings: Settings) -> str:
    """The device that is meant: ``auto`` is a GPU where there is one."""
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


def attention_settings(settings: Settings) -> dict[str, Any]:
    """What decides a score beside the networks; part of the model signature.

    Only what differs from the defaults, so that with those the signature is that of the
    networks alone, as commands without settings have it.
    """
    chosen = {"overlap_term": settings.overlap_term, "window_overlap": settings.window_overlap}
    usual = Settings()
    return {key: value for key, value in chosen.items() if value != getattr(usual, key)}
