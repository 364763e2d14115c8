"""Draw random batches from many cases in bounded memory, the same ones for the same seed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from atlas8k.core.errors import Atlas8kError, TrainingError
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.models.preprocess import more_than_one
from atlas8k.training import ranks
from atlas8k.training.augment import Patch, cut_to, draw
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import Loadable, Prepared

logger = logging.getLogger(__name__)

AnyLoadable = TypeVar("AnyLoadable", bound=Loadable)

NARROWEST = 0.4
"""Share of a side of the volume that a narrow field of view shows at least."""

TURNOVER = 32
"""An epoch moves on by one in so many of all cases at least, where they do not all fit."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches and the organs that are labeled in each.

    ``image`` (B, 1, X, Y, Z) float32, ``label`` (B, X, Y, Z) uint8, ``known`` and ``pseudo``
    (B, organs) bool: labeled by people, by the networks.
    """

    image: torch.Tensor
    label: torch.Tensor
    known: torch.Tensor
    pseudo: torch.Tensor


class PatchSource:
    """Batches of random patches.

    Parameters
    ----------
    cases
        All cases to train on. One that cannot be loaded is logged and left out.
    preprocessing
        That of the network.
    config
        Batch and patch size, balance, augmentation, memory, seed, workers.
    aside
        Returns the context in which a case is loaded; others have the device meanwhile.
    enough
        Returns whether loading has used up its time: no more is loaded then, and the epoch
        has the cases that are loaded, one at least.

    Raises
    ------
    TrainingError
        No cases.
    """

    def __init__(
        self,
        cases: Sequence[Loadable],
        preprocessing: Preprocessing,
        config: TrainingConfig,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
        enough: Callable[[], bool] = bool,
    ) -> None:
        if not cases:
            raise TrainingError("there is no case to train on")
        self.preprocessing = preprocessing
        self.config = config
        self.patch: Patch = config.patch or preprocessing.window_size
        self._cases: list[Loadable] = training_order(cases, config.seed)
        self._step = _turnover(len(cases), config)
        self._loaded: dict[str, Prepared] = {}
        self._broken: set[str] = set()
        self._aside, self._enough = aside, enough

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; they depend on the seed and its number alone.

        The ``accumulate`` batches of a step come one after another; several processes get
        different ones.

        Raises
        ------
        TrainingError
            None of the cases can be loaded.
        """
        cases = self._load_epoch(epoch)
        accumulate, workers = self.config.accumulate, self.config.workers
        step_keys = (
            (epoch, step, ranks.number() + i * ranks.size())
            for step in range(self.config.steps_per_epoch)
            for i in range(accumulate)
        )
        if not workers:
            for step_key in step_keys:
                yield self._batch(cases, step_key)
            return
        with ThreadPoolExecutor(workers) as pool:
            waiting: list[Future[Batch]] = []
            try:
                for step_key in step_keys:
                    waiting.append(pool.submit(self._batch, cases, step_key))
                    if len(waiting) > workers:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _batch(self, cases: Sequence[Prepared], step_key: tuple[int, int, int]) -> Batch:
        rng = np.random.default_rng((self.config.seed, *step_key))
        chosen = [cases[i] for i in rng.integers(len(cases), size=self.config.batch_size)]
        field = self._field(chosen[0], rng)
        size = self._size(field, rng)
        patches = [
            draw(c, size, rng, balance=self.config.balance, augment=self.config.augment)
            for c in chosen
        ]
        if self.preprocessing.whole is not None and self.config.narrow:
            patches = [cut_to(image, label, field, rng) for image, label in patches]
        return Batch(
            image=torch.stack([image for image, _ in patches])[:, None],
            label=torch.stack([label for _, label in patches]),
            known=torch.stack([case.known for case in chosen]),
            pseudo=torch.stack([case.pseudo for case in chosen]),
        )

    def _field(self, case: Prepared, rng: np.random.Generator) -> Patch:
        """Draw the size of the scanned field: the volume or, at times (``narrow``), a part."""
        x, y, z = case.image.shape
        if not self.config.narrow or rng.random() >= self.config.narrow:
            return x, y, z
        a, b, c = rng.uniform(NARROWEST, 1.0, 3)
        return round(x * a), round(y * b), round(z * c)

    def _size(self, field: Patch, rng: np.random.Generator) -> Patch:
        """Return the size of a patch: fixed, or the whole field, rounded to a multiple.

        Rounding is up or down by chance: networks that normalise over their input meet
        volumes with a little padding, and volumes that are cut a little.
        """
        whole = self.preprocessing.whole
        if whole is None:
            return self.patch
        sides = []
        for n, most in zip(field, self.patch, strict=True):
            steps = int(n / whole + rng.random())
            sides.append(whole * max(1, min(steps, most // whole)))
        return more_than_one(sides, whole)

    def _load_epoch(self, epoch: int) -> list[Prepared]:
        """Load the cases of an epoch: a window over all of them that moves on with every epoch."""
        budget = self.config.memory_mb * (1 << 20)
        n = len(self._cases)
        start = epoch * self._step % n
        previous, self._loaded = self._loaded, {}
        loaded: dict[str, Prepared] = {}
        used = 0
        for case in self._cases[start:] + self._cases[:start]:
            prepared = previous.pop(case.name, None)
            if prepared is None and case.name not in self._broken:
                if (loaded or previous) and self._enough():
                    loaded |= previous  # the window does not move
                    break
                previous.clear()  # behind the window: freed before anything is loaded
                prepared = self._load(case)
            if prepared is None:
                continue
            if loaded and used + prepared.nbytes > budget:
                break
            loaded[case.name] = prepared
            used += prepared.nbytes
        if not loaded:
            raise TrainingError("none of the cases can be used; see the log for each one's reason")
        if epoch == 0 and len(loaded) + len(self._broken) < n:
            met = min(n, len(loaded) + self._step * (self.config.epochs - 1))
            logger.info(
                "%d of %d cases fit into memory_mb %d at once; %s of them are met",
                len(loaded),
                n,
                self.config.memory_mb,
                "more and more" if self.config.minutes else f"about {met} in all epochs",
            )
        self._loaded = loaded
        return list(loaded.values())

    def _load(self, case: Loadable) -> Prepared | None:
        try:
            with self._aside():
                return case.load(self.preprocessing)
        except Atlas8kError as err:
            self._broken.add(case.name)
            logger.warning("not trained on %s: %s", case.name, err)
            return None


def training_order(cases: Sequence[AnyLoadable], seed: int) -> list[AnyLoadable]:
    """Return the cases in the order of their use in a training of that seed."""
    order = np.random.default_rng(seed).permutation(len(cases))
    return [cases[i] for i in order]


def _turnover(cases: int, config: TrainingConfig) -> int:
    """Return the number of cases by which the window moves on with an epoch.

    It is large enough to meet all cases, but no more than half of an epoch's patches: a case
    is resampled or read for two patches at least.
    """
    if config.turnover:
        return config.turnover
    least = max(1, cases // TURNOVER)
    if config.minutes is not None:
        return least
    patches = config.steps_per_epoch * config.batch_size * config.accumulate
    return max(least, min(-(-cases // config.epochs), patches // 2))
