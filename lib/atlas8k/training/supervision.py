"""One step's gradient: batches through the network, and the loss of what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from atlas8k.errors import TrainingError
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.organs import ORGAN_IDS
from atlas8k.training import ranks
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import IGNORED
from atlas8k.training.losses import segmentation_loss
from atlas8k.training.patches import Batch


class Asked:
    """What one network is asked about a batch.

    Parameters
    ----------
    start
        Its organs and activation.
    """

    def __init__(self, start: Checkpoint, config: TrainingConfig, device: torch.device) -> None:
        self._start = start
        self._config = config
        self._device = device
        self._channels, self._rows = _channels(start)

    def backward(
        self,
        module: torch.nn.Module,
        batches: Sequence[Batch],
        fraction: float,
        place: tuple[int, int],
    ) -> float:
        """Add the gradient of the batches' mean loss to the network's.

        Parameters
        ----------
        fraction
            Of the training that is done after this step.
        place
            Epoch and step, which what is random in the network follows from.

        Returns
        -------
        float
            The mean loss, over all processes.

        Raises
        ------
        TrainingError
            The network cannot take patches of this size.
        """
        balance = self._config.balance_loss * min(1.0, 2 - 2 * fraction)
        mean = 0.0
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with nullcontext() if last else ranks.unsynchronised(module):
                logits = self._forward(module, batch, (*place, i))
                loss = self.loss(logits, batch, balance) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
            mean += float(loss.detach())
        return ranks.mean(mean, self._device)

    def loss(self, logits: torch.Tensor, batch: Batch, balance: float) -> torch.Tensor:
        """Loss of what people have labeled, and of pseudo labels by their weight.

        With weight `w` it is ``1 - w`` of the loss that does not know the pseudo labels and
        ``w`` of the one that takes them for labels.
        """
        weight = self._config.pseudo_weight
        label = self._channels[batch.label.long()].to(self._device)
        known = batch.known[:, self._rows].to(self._device)
        pseudo = batch.pseudo[:, self._rows].to(self._device)
        if not bool(pseudo.any()):
            return self._heads(logits, label, known, balance)
        parts = []
        if weight > 0:
            parts.append(weight * self._heads(logits, label, known | pseudo, balance))
        if weight < 1:
            parts.append((1 - weight) * self._heads(logits, _people(label, pseudo), known, balance))
        return torch.stack(parts).sum()

    def _heads(
        self, logits: torch.Tensor, label: torch.Tensor, known: torch.Tensor, balance: float
    ) -> torch.Tensor:
        """Heads of deep supervision count half as much each as the one before."""
        activation = self._start.activation
        if logits.ndim == 5:
            return segmentation_loss(logits, label, known, activation, balance)
        weights = [0.5**i for i in range(logits.shape[1])]
        losses = [
            weight * segmentation_loss(head, label, known, activation, balance)
            for weight, head in zip(weights, logits.unbind(1), strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)

    def _forward(
        self, module: torch.nn.Module, batch: Batch, place: tuple[int, ...]
    ) -> torch.Tensor:
        image = batch.image.to(self._device, memory_format=torch.channels_last_3d)
        devices = [self._device] if self._device.type == "cuda" else []
        # Dropout draws from the global generator: from the step alone here, so that a
        # training that goes on draws what it would have drawn.
        with torch.random.fork_rng(devices=devices):
            seeds = np.random.SeedSequence((self._config.seed, *place, ranks.number()))
            torch.manual_seed(int(seeds.generate_state(1)[0]))
            try:
                with autocast(self._device, self._config.amp):
                    logits: torch.Tensor = module(image)
            except ValueError as error:  # of the checks of MONAI's networks
                raise TrainingError(
                    f"{self._start.name}: patches of {tuple(image.shape[2:])} voxels do not "
                    f"fit the network: {error}"
                ) from error
        return logits


def _people(label: torch.Tensor, pseudo: torch.Tensor) -> torch.Tensor:
    """``(B, X, Y, Z)`` channels without those of organs that only networks labeled."""
    hidden = torch.zeros(len(label), IGNORED + 1, dtype=torch.bool, device=label.device)
    hidden[:, 1 : 1 + pseudo.shape[1]] = pseudo
    sample = torch.arange(len(label), device=label.device)[:, None, None, None]
    return label.masked_fill(hidden[sample, label.long()], 0)


def _channels(start: Checkpoint) -> tuple[torch.Tensor, list[int]]:
    """Label value to output channel, ``(256,)``, and the network's organs in id order."""
    table = torch.zeros(256, dtype=torch.uint8)
    table[IGNORED] = IGNORED
    for channel, organ in enumerate(start.organs, start=1):
        table[ORGAN_IDS[organ]] = channel
    return table, [ORGAN_IDS[organ] - 1 for organ in start.organs]


def autocast(device: torch.device, amp: bool | None) -> AbstractContextManager[None]:
    """Context in which networks compute in bfloat16, where that is wanted or pays."""
    if amp is None:
        amp = _pays(device)
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=amp
    )
    return context


def _pays(device: torch.device) -> bool:
    """Whether there are instructions for bfloat16: emulated, it is several times slower.

    GPUs have them from compute capability 8 on: a V100, T4 or RTX 8000 has not.
    """
    if device.type != "cuda":
        return bool(torch.cpu._is_avx512_bf16_supported())
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
