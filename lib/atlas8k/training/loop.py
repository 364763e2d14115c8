"""The training loop: one network, from a checkpoint to a better one.

Read :func:`train_network` from top to bottom. What varies from step to step depends on
the seed, the epoch and the step alone, so a training that is stopped after an epoch and
goes on from its state ends with the same weights as one that was not.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from atlas8k.errors import TrainingError
from atlas8k.models.checkpoint import Checkpoint, network
from atlas8k.organs import ORGAN_IDS
from atlas8k.training.config import Optimiser, TrainingConfig
from atlas8k.training.data import IGNORED, Case
from atlas8k.training.losses import segmentation_loss
from atlas8k.training.patches import PatchSource
from atlas8k.training.state import Average, load_state, save_state
from atlas8k.training.validation import measure

CLIP_NORM = 5.0
FINAL_RATE = 0.01


@dataclass(frozen=True)
class Progress:
    """Where a training stands after an epoch.

    Attributes
    ----------
    network
        Name of the network.
    epoch, epochs
        Epochs done; of how many, ``None`` where the clock decides.
    fraction
        Done, 0 to 1.
    loss
        Mean over the epoch.
    dsc
        Mean DSC by organ over the validation cases, empty where not measured after this
        epoch. Organs that none of them has are left out.
    seconds, seconds_left
        Spent, and expected from the pace so far.
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
    checkpoint: Callable[[], Checkpoint] = field(repr=False)

    @property
    def mean_dsc(self) -> float | None:
        """Mean over the organs of :attr:`dsc`, ``None`` where nothing was measured."""
        return sum(self.dsc.values()) / len(self.dsc) if self.dsc else None


def train_network(
    start: Checkpoint,
    cases: Sequence[Case],
    config: TrainingConfig,
    *,
    validation: Sequence[Case] = (),
    on_epoch: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    state_path: Path | None = None,
) -> Checkpoint:
    """Train one network on.

    Parameters
    ----------
    start
        Architecture, preprocessing and first weights.
    cases, validation
        To train and to measure on.
    on_epoch
        Called after every epoch.
    should_stop
        Asked before every step; when true, the training ends with what it has.
    state_path
        File that is written after every epoch, and from which a training goes on if it is
        there. It is removed when the training is complete.

    Returns
    -------
    Checkpoint
        As ``start``, with the averaged weights, and ``origin`` saying how it was made.

    Raises
    ------
    TrainingError
        No usable case, a state of another training, or a loss that is not finite.
    """
    device = torch.device(config.device)
    optimiser_settings = config.optimiser_for(start.name)
    module = network(start, device)
    module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = _optimiser(module, optimiser_settings)
    average = Average(module, config.averaging)
    source = PatchSource(cases, start.preprocessing, config)
    channels, rows = _channels(start)
    epoch, step, seconds = 0, 0, 0.0
    if state_path is not None and state_path.is_file():
        epoch, step, seconds = load_state(state_path, config, module, optimiser, average, start)
    began = time.monotonic() - seconds
    stopped = False

    def checkpoint() -> Checkpoint:
        origin = {
            "trained_from": dict(start.origin),
            "cases": len(cases),
            "steps": step,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "config": config.model_dump(mode="json"),
        }
        return dataclasses.replace(start, state=average.state(), origin=origin)

    def fraction(ahead: int) -> float:
        if config.minutes is not None:
            return min(1.0, (time.monotonic() - began) / (60 * config.minutes))
        return min(1.0, (step + ahead) / (config.epochs * config.steps_per_epoch))

    while fraction(0) < 1 and not stopped:
        module.train()
        losses = []
        for batch in source.batches(epoch):
            stopped = should_stop is not None and should_stop()
            if stopped:
                break
            for group in optimiser.param_groups:
                group["lr"] = optimiser_settings.lr * rate(fraction(1), config.warm_up)
            image = batch.image.to(device, memory_format=torch.channels_last_3d)
            with _autocast(device, config.amp):
                logits = module(image)
            loss = _supervise(
                logits,
                channels[batch.label.long()].to(device),
                batch.known[:, rows].to(device),
                start.activation,
                config.balance_loss * min(1.0, 2 - 2 * fraction(1)),
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
            optimiser.step()
            average.update(module)
            step += 1
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                if state_path is not None:  # going on from it would end here again
                    state_path.unlink(missing_ok=True)
                raise TrainingError(
                    f"{start.name}: the loss is not finite after {step} steps; "
                    "use a smaller learning rate"
                )
        if not losses:
            break
        epoch += 1
        done = fraction(0)
        seconds = time.monotonic() - began
        if state_path is not None and not stopped:
            save_state(state_path, config, module, optimiser, average, start, epoch, step, seconds)
        dsc: dict[str, float] = {}
        if validation and (done >= 1 or stopped or epoch % config.validate_every == 0):
            with _autocast(device, config.amp):
                dsc = measure(average.module, start, validation, device)
        if on_epoch is not None:
            on_epoch(
                Progress(
                    network=start.name,
                    epoch=epoch,
                    epochs=None if config.minutes is not None else config.epochs,
                    fraction=done,
                    loss=sum(losses) / len(losses),
                    dsc=dsc,
                    seconds=seconds,
                    seconds_left=seconds * (1 - done) / max(done, 1e-6),
                    checkpoint=checkpoint,
                )
            )
    if state_path is not None and not stopped:
        state_path.unlink(missing_ok=True)
    return checkpoint()


def rate(fraction: float, warm_up: float) -> float:
    """Learning rate as a share of its peak: a rise in a straight line, then half a cosine."""
    if fraction < warm_up:
        return fraction / warm_up
    part = (fraction - warm_up) / (1 - warm_up)
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * part))


def _supervise(
    logits: torch.Tensor,
    label: torch.Tensor,
    known: torch.Tensor,
    activation: str,
    balance: float,
) -> torch.Tensor:
    """The loss; heads of deep supervision count half as much each as the one before."""
    if logits.ndim == 5:
        return segmentation_loss(logits, label, known, activation, balance)
    weights = [0.5**i for i in range(logits.shape[1])]
    losses = [
        weight * segmentation_loss(head, label, known, activation, balance)
        for weight, head in zip(weights, logits.unbind(1), strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def _channels(start: Checkpoint) -> tuple[torch.Tensor, list[int]]:
    """Label value to output channel, ``(256,)``, and the network's organs in id order."""
    table = torch.zeros(256, dtype=torch.uint8)
    table[IGNORED] = IGNORED
    for channel, organ in enumerate(start.organs, start=1):
        table[ORGAN_IDS[organ]] = channel
    return table, [ORGAN_IDS[organ] - 1 for organ in start.organs]


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


def _autocast(device: torch.device, amp: bool | None) -> AbstractContextManager[None]:
    if amp is None:
        # Without such instructions a processor emulates bfloat16, several times slower.
        amp = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=amp
    )
    return context
