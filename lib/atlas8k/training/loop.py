"""The training loop: one network, from a checkpoint to a better one.

Read :func:`train_network` from top to bottom. What varies from step to step depends on
the seed, the epoch and the step alone, so a training that is stopped after an epoch and
goes on from its state ends with the same weights as one that was not.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from atlas8k.core.errors import TrainingError
from atlas8k.models.checkpoint import Checkpoint, network
from atlas8k.training import ranks
from atlas8k.training.config import Optimiser, TrainingConfig
from atlas8k.training.data import Loadable
from atlas8k.training.losses import Supervision, autocast
from atlas8k.training.patches import PatchSource
from atlas8k.training.resume import Average, TrainingState, identity_of
from atlas8k.training.time_budget import OWN_DEVICE, SharedDevice, TimeBudget
from atlas8k.training.validation import measure

logger = logging.getLogger(__name__)

CLIP_NORM = 5.0
FINAL_RATE = 0.01
"""Share of the peak rate at which the cosine ends."""
MOST_LEFT_OUT = 3
"""Steps in a row without a finite gradient; after more, the weights are past saving."""
POLYNOMIAL = 0.9
"""nnU-Net's exponent."""


@dataclass(frozen=True)
class Progress:
    """The progress of a training after an epoch.

    Attributes
    ----------
    network
        Name of the network.
    epoch, epochs
        Epochs done, and their number; ``None`` where the clock decides.
    fraction
        Done, 0 to 1.
    loss
        Mean over the epoch.
    dsc
        Mean DSC by organ over the validation cases, empty where not measured after this
        epoch. Organs that none of them has are left out.
    seconds, seconds_left
        Time spent, without waiting for the device, and expected from the pace so far.
    lr
        Learning rate of the epoch's last step.
    checkpoint
        Makes the checkpoint as it would be returned now.
    """

    network: str
    epoch: int
    epochs: int | None
    fraction: float
    loss: float
    dsc: Mapping[str, float]
    seconds: float
    seconds_left: float
    lr: float
    checkpoint: Callable[[], Checkpoint] = field(repr=False)

    @property
    def mean_dsc(self) -> float | None:
        """Mean over the organs of :attr:`dsc`, ``None`` where nothing was measured."""
        return sum(self.dsc.values()) / len(self.dsc) if self.dsc else None


def train_network(
    start: Checkpoint,
    cases: Sequence[Loadable],
    config: TrainingConfig,
    *,
    validation: Sequence[Loadable] = (),
    on_epoch: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    state_path: Path | None = None,
    shared_device: SharedDevice = OWN_DEVICE,
) -> Checkpoint:
    """Train one network, from a checkpoint.

    Parameters
    ----------
    start
        Architecture, preprocessing and first weights.
    cases, validation
        To train and to measure on.
    on_epoch
        Called after every epoch; of several processes (:mod:`.ranks`) in the first alone.
    should_stop
        Called before every step; where it returns true, the training ends with the weights it
        has. Of several processes the first decides.
    state_path
        File that is written after every epoch, and from which a training goes on if it
        exists. It stays when the training is complete, until the caller has stored the
        result: nothing has to be trained again.
    shared_device
        The device, where others want it too: they have it while volumes are prepared, and
        before every step where somebody waits.

    Returns
    -------
    Checkpoint
        As ``start``, with the averaged weights and their ``origin``.

    Raises
    ------
    TrainingError
        No usable case, a state of another training, or a loss that is not finite.
    """
    device = torch.device(config.device)
    settings = config.optimiser_for(start.name)
    bare = network(start, device)
    bare.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = _optimiser(bare, settings)
    average = Average(bare, config.averaging)
    state = TrainingState(identity_of(config, start), bare, optimiser, average)
    if state_path is not None and state_path.is_file():
        state.load(state_path)
    module = ranks.averaged(bare, device)
    supervision = Supervision(start, config, device)
    budget = TimeBudget(
        shared_device, config.minutes, seconds=state.seconds, measured=bool(validation)
    )
    source = PatchSource(cases, start.preprocessing, config, budget.preparing, budget.prepared)
    stopped, left_out = False, 0

    def checkpoint() -> Checkpoint:
        origin = {
            "trained_from": dict(start.origin),
            "cases": len(cases),
            "steps": state.step,
            "minutes": round(budget.seconds() / 60, 1),
            "config": config.model_dump(mode="json"),
            **({"processes": ranks.size()} if ranks.size() > 1 else {}),
        }
        return dataclasses.replace(start, state=average.state(), origin=origin)

    def fraction(ahead: int) -> float:
        if config.minutes is not None:
            return budget.fraction()
        return min(1.0, (state.step + ahead) / (config.epochs * config.steps_per_epoch))

    done = ranks.broadcast(fraction(0))
    while done < 1 and not stopped:
        module.train()
        losses: list[float] = []
        for batches in zip(*[source.batches(state.epoch)] * config.accumulate, strict=True):
            budget.give_way()
            stopped, share = ranks.broadcast(
                (should_stop is not None and should_stop(), fraction(1))
            )
            if stopped or (losses and config.minutes is not None and share >= 1):
                break
            for group in optimiser.param_groups:
                group["lr"] = settings.lr * rate(share, config.warm_up, settings.schedule)
            optimiser.zero_grad(set_to_none=True)
            losses.append(supervision.backward(module, batches, share, (state.epoch, state.step)))
            norm = torch.nn.utils.clip_grad_norm_(bare.parameters(), CLIP_NORM)
            state.step += 1
            if math.isfinite(losses[-1]) and bool(norm.isfinite()):
                optimiser.step()
                average.update(bare)
                left_out = 0
                continue
            # One patch that overflows in bfloat16 must not cost a training: the step is left out.
            left_out += 1
            logger.warning(
                "%s: step %d is left out, its gradient is not finite", start.name, state.step
            )
            if left_out > MOST_LEFT_OUT:
                if state_path is not None:  # going on from it would end here again
                    state_path.unlink(missing_ok=True)
                raise TrainingError(
                    f"{start.name}: the loss is not finite after {state.step} steps; "
                    "use a smaller learning rate"
                )
        if not losses:
            break
        state.epoch += 1
        # Computed once for all that follows, so that an epoch that ends the training is measured.
        done = ranks.broadcast(fraction(0))
        state.seconds = budget.seconds()
        if not ranks.first():
            continue
        if state_path is not None and not stopped:
            state.save(state_path)
        dsc: dict[str, float] = {}
        if validation and (done >= 1 or stopped or state.epoch % config.validate_every == 0):
            with autocast(device, config.amp), budget.measuring():
                dsc = measure(average.module, start, validation, device, budget.aside, budget.over)
        if on_epoch is not None:
            on_epoch(
                Progress(
                    network=start.name,
                    epoch=state.epoch,
                    epochs=None if config.minutes is not None else config.epochs,
                    fraction=done,
                    loss=_mean(losses),
                    dsc=dsc,
                    seconds=state.seconds,
                    seconds_left=state.seconds * (1 - done) / max(done, 1e-6),
                    lr=optimiser.param_groups[0]["lr"],
                    checkpoint=checkpoint,
                )
            )
    return checkpoint()


def _mean(losses: Sequence[float]) -> float:
    """Return the mean of the finite losses; NaN where none is."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else math.nan


def rate(fraction: float, warm_up: float, schedule: str = "cosine") -> float:
    """Return the learning rate as a share of its peak: a straight rise, then the schedule."""
    if fraction < warm_up:
        return fraction / warm_up
    part = (fraction - warm_up) / (1 - warm_up)
    if schedule == "polynomial":
        return float((1 - part) ** POLYNOMIAL)
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * part))


def _optimiser(module: torch.nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    if settings.kind == "sgd":
        return torch.optim.SGD(
            module.parameters(),
            lr=settings.lr,
            momentum=0.99,
            nesterov=True,
            weight_decay=settings.weight_decay,
        )
    return torch.optim.AdamW(
        module.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
