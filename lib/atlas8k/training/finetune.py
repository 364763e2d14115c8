"""From served networks and labeled cases to better networks."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from atlas8k.errors import TrainingError
from atlas8k.models.checkpoint import Checkpoint, load_checkpoint
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import Case
from atlas8k.training.loop import Progress, train_network

logger = logging.getLogger(__name__)

FEWEST_TO_SPLIT = 5

AnyCase = TypeVar("AnyCase", bound=Case)


def fine_tune(
    served: Mapping[str, Checkpoint | Path],
    cases: Sequence[Case],
    config: TrainingConfig,
    *,
    networks: Sequence[str] | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    state_folder: Path | None = None,
) -> dict[str, Checkpoint]:
    """Train served networks on, one after another.

    Parameters
    ----------
    served
        Checkpoints, or their files, by network name.
    cases
        All of them; a share is kept out to measure on (:func:`split`).
    networks
        Names of those to train; all where ``None``.
    on_epoch, should_stop
        As in :func:`~atlas8k.training.loop.train_network`. After a stop, the network that
        was being trained is returned as far as it came, and those after it as they were.
    state_folder
        Where ``<network>.state.pt`` is kept, so that an interrupted training goes on.

    Returns
    -------
    dict
        Every network of ``served`` by name, trained or as it was, in its order: a whole
        set to publish.

    Raises
    ------
    TrainingError
        No networks, no cases, an unknown network name, or as ``train_network``.
    CheckpointError
        A file of ``served`` cannot be loaded.
    """
    if not served:
        raise TrainingError("there is no network to train; publish or embed one first")
    if not cases:
        raise TrainingError("there is no labeled case to train on; submit a label first")
    unknown = sorted(set(networks or ()) - set(served))
    if unknown:
        raise TrainingError(
            f"network {', '.join(unknown)} is not served; served are {', '.join(served)}"
        )
    training, validation = split(cases, config.validation)
    logger.info("training on %d cases, measuring on %d", len(training), len(validation))
    result = {}
    stopped = False
    for name, given in served.items():
        start = given if isinstance(given, Checkpoint) else load_checkpoint(given)
        stopped = stopped or (should_stop is not None and should_stop())
        if stopped or (networks is not None and name not in networks):
            result[name] = start
            continue
        result[name] = train_network(
            start,
            training,
            config,
            validation=validation,
            on_epoch=on_epoch,
            should_stop=should_stop,
            state_path=None if state_folder is None else state_folder / f"{name}.state.pt",
        )
    return result


def split(cases: Sequence[AnyCase], share: float) -> tuple[list[AnyCase], list[AnyCase]]:
    """Cases to train on and cases to measure on.

    A case's side follows from its name alone, so that it stays where it is when labels
    arrive. With fewer than five cases, or none on the one side, all are trained on and
    none is measured: a number from a trained case would say nothing.

    Parameters
    ----------
    share
        To measure on, about.
    """
    kept_out = [case for case in cases if _position(case.name) < share]
    if len(cases) < FEWEST_TO_SPLIT or len(kept_out) == len(cases):
        return list(cases), []
    return [case for case in cases if _position(case.name) >= share], kept_out


def _position(name: str) -> float:
    """A number from 0 to 1 that is a name's own."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
