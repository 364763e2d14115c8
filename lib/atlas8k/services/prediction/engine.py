"""The served networks of this process: loaded once, shared, swapped when a set is published."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from atlas8k.attention import Quantised
from atlas8k.attention.packed import pack_codes, unpack_codes
from atlas8k.attention.slabs import quantise
from atlas8k.core.errors import (
    Atlas8kError,
    AttentionError,
    CheckpointError,
    DeviceLostError,
    PredictionError,
    SettingsError,
)
from atlas8k.core.settings import Settings
from atlas8k.core.volume import Grid, Volume, read_ct, read_grid
from atlas8k.core.weighting import Weights
from atlas8k.models.ensemble import EnsembleSettings
from atlas8k.models.predict import Prediction, Predictor, Prepared
from atlas8k.models.resources import peak_mb
from atlas8k.models.store import ModelStore, ServedSet
from atlas8k.services.device_lock import DeviceLock, Turn
from atlas8k.services.prediction.answers import (
    Answers,
    salient_settings,
)
from atlas8k.services.prediction.cache import Key, Kind, PredictionCache
from atlas8k.services.studies.served import file_fingerprint

logger = logging.getLogger(__name__)

T = TypeVar("T")
KEPT_BYTES = 1 << 30
"""A prediction is kept for the next request (`ensemble`, then `attention`) up to this size."""


class ReadCT(NamedTuple):
    """A CT that was read before its turn.

    Attributes
    ----------
    fingerprint
        Of its file.
    prepared
        What networks make of it before they run, with those networks; ``None``: not yet.
    """

    ct: Volume
    fingerprint: str
    prepared: tuple[Predictor, Prepared] | None


class Engine:
    """Prediction of one CT at a time by whatever set is served now.

    Parameters
    ----------
    settings
        Device, window overlap and what belongs into the model version.
    store
        Where checkpoints lie; asked again for every request, so that a set published by
        a training process is served without a restart.
    lock
        Of the device, where other processes use it too.
    cache
        Where answers and probabilities of the studies' volumes are kept.
    """

    def __init__(
        self,
        settings: Settings,
        store: ModelStore,
        lock: DeviceLock | None = None,
        cache: PredictionCache | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._lock = threading.Lock()
        self._device = lock
        self._predictor: tuple[str, Predictor] | None = None
        self._last: tuple[tuple[object, ...], Prediction] | None = None
        self._out: tuple[str, dict[str, str]] = ("", {})
        self._cache = cache
        self.salient = salient_settings(settings)
        self._keeping = threading.Lock()

    def warm_up(self) -> None:
        """Load the networks in the background, before anybody waits for them."""

        def load() -> None:
            try:
                self.load()
            except (Atlas8kError, OSError) as err:  # said again to whoever asks for a prediction
                logger.warning("networks were not loaded beforehand: %s", err)

        threading.Thread(target=load, name="load-networks", daemon=True).start()

    def load(self) -> None:
        """Load the networks now.

        Raises
        ------
        CheckpointError
            One cannot be loaded, or there is no set of networks to serve.
        """
        with self._lock:
            self._load(self._store.served())

    def left_out(self) -> dict[str, str]:
        """Return the networks of the served set and of the last run that take no part, and why.

        Raises
        ------
        CheckpointError
            There is no set of networks to serve.
        """
        served = self._store.served()
        model_version, failures = self._out
        return {**served.missing, **(failures if model_version == served.model_version else {})}

    def read(self, path: Path) -> ReadCT:
        """Read a CT, and have it ready for the networks where they are loaded; in any thread.

        Raises
        ------
        VolumeError
            The CT cannot be used.
        """
        fingerprint = file_fingerprint(path)
        ct, loaded = read_ct(path), self._predictor
        prepared = None if loaded is None else (loaded[1], loaded[1].prepare(ct))
        return ReadCT(ct, fingerprint, prepared)

    def predict(
        self, path: Path, turn: Turn = Turn.INFERENCE, read: ReadCT | None = None
    ) -> tuple[Volume, Prediction, str]:
        """Read and predict one CT.

        Parameters
        ----------
        turn
            How urgent it is, where others wait for the device as well.
        read
            The CT, where it was read ahead.

        Returns
        -------
        ct, prediction, model_version
            The CT as read, the soft predictions and the model version they belong to.

        Raises
        ------
        VolumeError
            The CT cannot be used.
        CheckpointError
            A served checkpoint cannot be loaded; the set loaded before is not used
            instead, its scores would carry the wrong model version.
        DeviceLostError
            The GPU does not answer any more.
        """
        fingerprint = file_fingerprint(path) if read is None else read.fingerprint
        ct = read_ct(path) if read is None else read.ct
        with self._lock:
            served = self._store.served()
            model_version = served.model_version
            key = (path, fingerprint, model_version)
            if self._last is not None and self._last[0] == key:
                return ct, self._last[1], model_version
            with self._device.turn(turn) if self._device else contextlib.nullcontext():
                try:
                    predictor = self._load(served)
                    ready = read.prepared if read is not None else None
                    known = ready is not None and ready[0] is predictor
                    prediction = predictor.predict(ready[1] if ready and known else ct)
                except (CheckpointError, DeviceLostError, PredictionError) as err:
                    self._out = (model_version, dict.fromkeys(served.checkpoints, str(err)))
                    raise
            self._out = (model_version, dict(prediction.failures))
            # One that was short of memory may do better next time.
            if prediction.probs.nbytes <= KEPT_BYTES and not prediction.short:
                self._last = (key, prediction)
            return ct, prediction, model_version

    def answers(
        self, path: Path, turn: Turn = Turn.INFERENCE, volume: str | None = None
    ) -> tuple[Grid, Answers, str]:
        """Return labels, regions and sizes of one CT, without the networks where they are kept.

        Parameters
        ----------
        volume
            Id of the volume in the studies; ``None`` for an upload, which is not kept.

        Returns
        -------
        grid, answers, model_version
            The CT's own grid, the answers, and the model version they belong to.

        Raises
        ------
        VolumeError, CheckpointError, PredictionError
            As :meth:`predict`.
        """
        return self.begin_answers(path, turn, volume)()

    def begin_answers(
        self,
        path: Path,
        turn: Turn = Turn.INFERENCE,
        volume: str | None = None,
        read: ReadCT | None = None,
    ) -> Callable[[], tuple[Grid, Answers, str]]:
        """Have the networks predict; return what makes :meth:`answers` of it, in any thread.

        Nothing of that needs the networks' device: the next CT can be predicted meanwhile.
        """
        key = self._key(path, volume, None if read is None else read.fingerprint)
        stored = self._stored(key, "answers", path.name, Answers.unpacked)
        if key is not None and stored is not None:
            found = read_grid(path), stored, key.model_version
            return lambda: found
        ct, prediction, model_version = self.predict(path, turn, read)
        served = self._store.served()

        def finish() -> tuple[Grid, Answers, str]:
            answers = Answers.of(prediction, self.salient, path.name, ct, served)
            # Of a set that is not complete nothing is kept: the next start may load it all.
            if key is not None and key.model_version == model_version and not answers.failures:
                self._keep(key, answers, prediction, wait=turn is Turn.SCORING)
            return ct.grid, answers, model_version

        return finish

    def probabilities(
        self, path: Path, turn: Turn = Turn.INFERENCE, volume: str | None = None
    ) -> tuple[Quantised, Grid, str]:
        """Return byte-quantised probabilities, the grid they lie on and their model version.

        As :meth:`answers` otherwise.
        """
        key = self._key(path, volume)
        stored = self._stored(key, "codes", path.name, unpack_codes)
        if key is not None and stored is not None:
            return *stored, key.model_version
        _, prediction, model_version = self.predict(path, turn)
        codes = quantise(prediction.probs, organs=prediction.organs, name=path.name)
        return codes, prediction.grid, model_version

    def holds(self, path: Path, volume: str) -> bool:
        """Return whether the probabilities of a CT are stored, or in memory."""
        key = self._key(path, volume)
        if key is not None and self._cache is not None and self._cache.has(key, "codes"):
            return True
        last = self._last
        return last is not None and last[0][:2] == (path, file_fingerprint(path))

    def _key(self, path: Path, volume: str | None, fingerprint: str | None = None) -> Key | None:
        """Return where answers of a volume are kept; of the file as it was when it was read."""
        if self._cache is None or self._cache.limit <= 0 or volume is None:
            return None
        salient = json.dumps(asdict(self.salient), sort_keys=True)
        mark = f"{fingerprint or file_fingerprint(path)}-{salient}"
        return Key(volume, mark, self._store.served().model_version)

    def _stored(
        self, key: Key | None, kind: Kind, name: str, unpack: Callable[[bytes, str], T]
    ) -> T | None:
        """Return what the cache has; ``None`` where it is not there, or damaged."""
        if self._cache is None or key is None or not (data := self._cache.read(key, kind)):
            return None
        try:
            return unpack(data, name)
        except AttentionError as err:
            logger.warning("%s; it is predicted again", err)
            self._cache.forget(key, kind)
            return None

    def _keep(self, key: Key, answers: Answers, prediction: Prediction, *, wait: bool) -> None:
        """Store what was said; without `wait` the bytes are made while others are served."""
        cache = self._cache
        if cache is None or not cache.keep(key, "answers", answers.packed()):
            return

        def keep_codes() -> None:
            with self._keeping:
                codes = quantise(prediction.probs, organs=prediction.organs, name=key.volume)
                cache.keep(key, "codes", pack_codes(codes, prediction.grid))

        if wait:
            keep_codes()
        elif not self._keeping.locked():  # one at a time holds probabilities in memory
            threading.Thread(target=keep_codes, name="keep-codes", daemon=True).start()

    def _load(self, served: ServedSet) -> Predictor:
        if self._predictor is None or self._predictor[0] != served.model_version:
            logger.info("Loading networks %s", served.model_version)
            self._predictor = self._last = None
            ensemble = ensemble_settings(self._settings)
            try:
                ensemble.weights.check(served.checkpoints)
            except SettingsError as err:  # the set was changed since the weights were given
                logger.error("%s", err)
            predictor = Predictor(
                served,
                device=device(self._settings),
                overlap=self._settings.window_overlap,
                mirror_axes="trained" if self._settings.mirror else (),
                precision=self._settings.precision,
                compiled=self._settings.compile_networks,
                ensemble=ensemble,
            )
            self._predictor = (served.model_version, predictor)
        return self._predictor[1]

    def peak_mb(self) -> dict[str, float]:
        """Return the most memory taken so far, see :func:`atlas8k.models.resources.peak_mb`."""
        return peak_mb(device(self._settings))


def device(settings: Settings) -> str:
    """Return the device that is meant: ``auto`` is a GPU where there is one."""
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


def ensemble_settings(settings: Settings) -> EnsembleSettings:
    """Return how probabilities become labels."""
    return EnsembleSettings(
        settings.largest_component, settings.fill_holes, Weights.parse(settings.ensemble_weights)
    )


def attention_settings(settings: Settings) -> dict[str, Any]:
    """Return what decides a score beside the networks; part of the model version.

    Only what differs from the defaults, so that with those the model version is that of the
    networks alone, as commands without settings have it.
    """
    keys = (
        "overlap_term",
        "window_overlap",
        "mirror",
        "precision",
        # Of labels, which are kept and given out under the model version.
        "ensemble_weights",
        "largest_component",
        "fill_holes",
        # Of ranking `salient`, whose figures are kept with every score.
        "inconsistency_threshold",
        "uncertainty_threshold",
        "opening_mm",
    )
    chosen = {key: getattr(settings, key) for key in keys}
    usual = Settings()
    return {key: value for key, value in chosen.items() if value != getattr(usual, key)}
