"""Fine-tune served networks on labeled cases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from atlas8k.core.errors import CheckpointError, TrainingError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from atlas8k.models.extend import extend, known_by
from atlas8k.training import ranks
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import Case
from atlas8k.training.loop import Progress, train_network
from atlas8k.training.prepared_cache import PreparedCache, cached
from atlas8k.training.resume import StateError
from atlas8k.training.split import split, stratified
from atlas8k.training.time_budget import OWN_DEVICE, SharedDevice

logger = logging.getLogger(__name__)

WATCHED = 8
"""Held-out cases, of every organ, that progress is measured on; the gate measures all, once."""

PREPARED = "prepared"


class Work(NamedTuple):
    """Arguments of a fine-tuning, which its first process sends to the others."""

    served: Mapping[str, Path]
    cases: Sequence[Case]
    config: TrainingConfig
    networks: Sequence[str]
    state_folder: Path
    trained_on: Container[str]


def follow(device: str) -> None:
    """Take part in the trainings of the first process, until it sends that there are no more."""
    while (work := ranks.broadcast(cast("Work | None", None))) is not None:
        config = work.config.model_copy(update={"device": device})
        fine_tune(**{**work._asdict(), "config": config})


def fine_tune(
    served: Mapping[str, Checkpoint | Path],
    cases: Sequence[Case],
    config: TrainingConfig,
    *,
    networks: Sequence[str] | None = None,
    apart: Sequence[Case] | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
    on_trained: Callable[[Checkpoint], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    state_folder: Path | None = None,
    trained_on: Container[str] = (),
    shared_device: SharedDevice = OWN_DEVICE,
) -> dict[str, Checkpoint]:
    """Continue the training of served networks, one after another.

    Parameters
    ----------
    served
        Checkpoints, or their files, by network name.
    cases
        All of them; a share is kept out to measure on (:func:`~atlas8k.training.split.split`).
    networks
        Names of those to train; all where ``None``. They learn labeled structures that no
        network of the set knows, too (:mod:`atlas8k.models.extend`).
    apart
        Cases to measure on, where none of `cases` is to be kept out.
    on_epoch, should_stop
        As in :func:`~atlas8k.training.loop.train_network`. After a stop, the network that
        was being trained is returned as far as it came, and those after it as they were.
    on_trained
        Called with every network that is done, also with one that was done before an
        interruption; of several processes in the first alone.
    state_folder
        Folder for ``<network>.state.pt``, for ``<network>.done.safetensors`` of every
        network that is done, so that an interrupted training goes on, and for ``prepared``,
        resampled volumes.
    trained_on
        Patients, or cases, that these networks were trained on before.
    shared_device
        The device, as in :func:`~atlas8k.training.loop.train_network`.

    Returns
    -------
    dict
        Every network of ``served`` by name, trained or as it was, in its order: a whole
        set to publish.

    Raises
    ------
    TrainingError
        No networks, no cases, an unknown network name, a network none of whose organs is
        labeled, or as ``train_network``.
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
    training, validation = (
        split(cases, config.validation, trained_on) if apart is None else (cases, apart)
    )
    logger.info("training on %d cases, measuring on %d", len(training), len(validation))
    cache = (
        None
        if state_folder is None
        else PreparedCache(state_folder / PREPARED, config.cache_gb * 1e9)
    )
    prepared, watched = cached(training, cache), cached(stratified(validation, WATCHED), cache)
    starts = {
        name: checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        for name, checkpoint in served.items()
    }
    result = dict(starts)
    starts = _with_new_structures(starts, networks or [*starts], training)
    for name in networks or starts:
        _check_organs(starts[name], training)
    stopped = False

    def stop() -> bool:
        nonlocal stopped
        stopped = stopped or (should_stop is not None and should_stop())
        return stopped

    for name, start in starts.items():
        if stop() or (networks is not None and name not in networks):
            continue
        done = state_folder and state_folder / f"{name}.done.safetensors"
        state = state_folder and state_folder / f"{name}.state.pt"
        before = _trained_before(done)
        if before is not None:
            logger.info("%s was done before this training was interrupted", name)
            result[name] = before
        else:
            train = partial(
                train_network,
                start,
                prepared,
                config,
                validation=watched,
                on_epoch=on_epoch,
                should_stop=stop,
                state_path=state,
                shared_device=shared_device,
            )
            try:
                result[name] = train()
            except StateError as error:
                assert state is not None
                logger.warning("%s begins anew: %s", name, error)
                state.unlink(missing_ok=True)
                result[name] = train()
            if stopped or not ranks.first():
                continue
            if done is not None and state is not None:
                save_checkpoint(done, result[name], half=False)
                state.unlink(missing_ok=True)  # only now: killed before, it goes on at its end
        if on_trained is not None and ranks.first():
            on_trained(result[name])
    return result


def _with_new_structures(
    starts: Mapping[str, Checkpoint], trained: Sequence[str], training: Sequence[Case]
) -> dict[str, Checkpoint]:
    """Give the networks to be trained outputs for labeled structures that none of the set knows."""
    labeled = {organ for case in training for organ in case.known_organs}
    new = [organ for organ in ORGAN_NAMES if organ in labeled - known_by(starts)]
    out = dict(starts)
    for name in trained if new else ():
        try:
            out[name] = extend(starts[name], new)
        except CheckpointError as error:
            logger.warning("%s; it is trained on what it knows", error)
        else:
            logger.info("%s learns %s, too", name, ", ".join(new))
    return out


def _check_organs(start: Checkpoint, training: Sequence[Case]) -> None:
    """Refuse a network that knows no organ of any case, before anything is trained."""
    labeled = {organ for case in training for organ in (*case.known_organs, *case.pseudo_organs)}
    if not labeled & set(start.organs):
        raise TrainingError(
            f"{start.name} knows {', '.join(start.organs)}, and labeled are "
            f"{', '.join(sorted(labeled)) or 'none'}: there is nothing for it to learn; train "
            "the others by name, or serve a network with these organs"
        )


def _trained_before(done: Path | None) -> Checkpoint | None:
    """Load a network that was done before the training was interrupted; None without one."""
    if done is None or not done.is_file():
        return None
    try:
        return load_checkpoint(done)
    except CheckpointError as error:
        logger.warning("trained once more: %s", error)
        return None
