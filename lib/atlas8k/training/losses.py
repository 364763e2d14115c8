"""Compute Dice plus cross-entropy over the labeled organs, and one step's gradient.

In a dataset that labels the liver alone the spleen's voxels are 0, and that 0 is no
negative. Each sample comes with a mask of the organs that are labeled.

Sigmoid networks have one output an organ: the logits of an unknown organ get a gradient of
exactly 0. Softmax networks share one probability between all classes; there the unknown
organs are summed into the background (the marginal loss of Shi et al., Medical Image
Analysis 70, 2021), so that a voxel without label is background *or* one of the unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from monai.losses import DiceLoss
from torch.nn import functional

from atlas8k.core.errors import TrainingError
from atlas8k.core.structures import ORGAN_IDS, in_use
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.training import ranks
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import IGNORED
from atlas8k.training.patches import Batch

SMOOTH = 1e-5
ENTROPY_WEIGHT = 3.0
"""Weight beside the Dice term of the sigmoid networks' cross-entropy, which is a mean over
organs that each fill little of a patch."""


def segmentation_loss(
    logits: torch.Tensor,
    label: torch.Tensor,
    known: torch.Tensor,
    activation: str,
    balance: float = 0.0,
    nested: Sequence[tuple[int, int]] = (),
) -> torch.Tensor:
    """Return Dice plus cross-entropy over the labeled organs.

    Parameters
    ----------
    logits
        ``(B, C, X, Y, Z)`` with ``C`` = organs (sigmoid) or 1 + organs (softmax).
    label
        ``(B, X, Y, Z)`` integer: 0 or 1 + the index of an organ, or
        :data:`~atlas8k.training.data.IGNORED` where a voxel could be any organ: it is in no
        term.
    known
        ``(B, organs)`` bool: the organ is labeled in this sample; where not, the label
        map must not hold it.
    activation
        ``"sigmoid"`` or ``"softmax"``.
    balance
        From 0, where every voxel counts alike in the cross-entropy, to 1, where an organ
        counts by the square root of its size. Random weights learn small organs many
        times sooner so; probabilities are too high until it is 0 again.

    nested
        Sigmoid networks: outputs, from 0 on, of an organ and of what lies within it; the organ's
        truth is both. Those of a softmax exclude each other.

    Returns
    -------
    Tensor
        Scalar. 0, with gradient 0, where nothing is known.
    """
    logits = logits.float()
    organs = known.shape[1]
    learned = label != IGNORED
    everywhere = bool(learned.all())
    if not everywhere and not bool(learned.any()):
        return logits.sum() * 0.0
    if activation == "softmax":
        logits = _marginal(logits, known)
        probs = torch.softmax(logits, dim=1)[:, 1:]
        truth = _one_hot(label, organs, probs.dtype)
        weight = torch.cat([truth.new_ones(1), _weights(truth, balance)])
        entropy = functional.cross_entropy(
            logits, label.long(), weight=weight, ignore_index=IGNORED
        )
        return entropy + _dice(_zero_ignored(probs, learned, everywhere), truth, known)
    truth = _one_hot(label, organs, logits.dtype)
    for outer, inner in nested:
        truth[:, outer] += truth[:, inner]
    entropy = functional.binary_cross_entropy_with_logits(
        logits,
        truth,
        pos_weight=_weights(truth, balance)[:, None, None, None],
        reduction="none",
    )
    share = learned.sum(dim=(1, 2, 3)).clamp(min=1) / learned[0].numel()
    each = _zero_ignored(entropy, learned, everywhere).mean(dim=(2, 3, 4)) / share[:, None]
    mean = (each * known).mean()
    probs = _zero_ignored(torch.sigmoid(logits), learned, everywhere)
    return ENTROPY_WEIGHT * mean + _dice(probs, truth, known)


def _zero_ignored(values: torch.Tensor, learned: torch.Tensor, everywhere: bool) -> torch.Tensor:
    """Return `values` ``(B, organs, X, Y, Z)``, 0 outside of `learned` ``(B, X, Y, Z)``."""
    return values if everywhere else values * learned[:, None]


def _weights(truth: torch.Tensor, balance: float) -> torch.Tensor:
    """Return the weight of a voxel of each organ, 1 for the background's: ``(organs,)``."""
    count = truth.sum(dim=(0, 2, 3, 4))
    voxels = truth.numel() // truth.shape[1]
    # An organ of which a patch shows only a corner must not outweigh everything else.
    return (voxels / count.clamp(min=max(1.0, voxels / 2500))) ** (balance / 2)


def _one_hot(label: torch.Tensor, organs: int, dtype: torch.dtype) -> torch.Tensor:
    """Turn ``(B, X, Y, Z)`` ids into ``(B, organs, X, Y, Z)``, 0 or 1, without background."""
    ids = torch.arange(1, organs + 1, device=label.device, dtype=label.dtype)
    # Channels last in memory, as the logits are: half the time of the whole loss.
    return (label[..., None] == ids).to(dtype).permute(0, 4, 1, 2, 3)


def _dice(probs: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Compute 1 - Dice per organ over the batch, averaged over the organs that have voxels.

    The batch counts as one volume. An organ without a voxel in it is left to the
    cross-entropy: its Dice is 0 whatever is predicted, and has no gradient.
    """
    if not bool(known.all()):
        mask = known[:, :, None, None, None]
        probs, truth = probs * mask, truth * mask
    loss = DiceLoss(batch=True, reduction="none", smooth_nr=SMOOTH, smooth_dr=SMOOTH)
    per_organ = loss(probs, truth).reshape(-1)
    present = (truth.sum(dim=(0, 2, 3, 4)) > 0).to(per_organ.dtype)
    mean: torch.Tensor = (per_organ * present).sum() / present.sum().clamp(min=1)
    return mean


def _marginal(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Move the unknown organs' probability into the background, in softmax logits."""
    if bool(known.all()):
        return logits
    mask = known[:, :, None, None, None]
    organs = logits[:, 1:]
    unlabeled = torch.cat([logits[:, :1], organs.masked_fill(mask, -torch.inf)], dim=1)
    background = torch.logsumexp(unlabeled, dim=1, keepdim=True)
    # Finite, since an infinite logit gives a NaN gradient where nothing is known.
    lowest = torch.finfo(logits.dtype).min / 2
    return torch.cat([background, organs.masked_fill(~mask, lowest)], dim=1)


class Supervision:
    """The loss of one network over batches, and its gradient.

    Parameters
    ----------
    start
        The network that is trained: its organs and activation.
    """

    def __init__(self, start: Checkpoint, config: TrainingConfig, device: torch.device) -> None:
        self._start = start
        self._config = config
        self._device = device
        self._channels, self._rows = _channels(start)
        self._nested = _nested(start)

    def backward(
        self,
        module: torch.nn.Module,
        batches: Sequence[Batch],
        fraction: float,
        step_key: tuple[int, int],
    ) -> float:
        """Add the gradient of the batches' mean loss to the network's.

        Parameters
        ----------
        fraction
            Share of the training that is done after this step.
        step_key
            Epoch and step, which seed the network's dropout.

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
                logits = self._forward(module, batch, (*step_key, i))
                loss = self.loss(logits, batch, balance) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
            mean += float(loss.detach())
        return ranks.mean(mean, self._device)

    def loss(self, logits: torch.Tensor, batch: Batch, balance: float) -> torch.Tensor:
        """Return the loss of people's labels, and of pseudo labels by their weight.

        With weight `w` it is ``1 - w`` of the loss without the pseudo labels and ``w`` of the
        one that takes them for labels.
        """
        weight = self._config.pseudo_weight
        label = self._channels[batch.label.long()].to(self._device)
        known = functional.pad(batch.known, (0, 1))[:, self._rows].to(self._device)
        pseudo = functional.pad(batch.pseudo, (0, 1))[:, self._rows].to(self._device)
        if not bool(pseudo.any()):
            return self._heads(logits, label, known, balance)
        parts = []
        if weight > 0:
            parts.append(weight * self._heads(logits, label, known | pseudo, balance))
        if weight < 1:
            parts.append(
                (1 - weight) * self._heads(logits, _without_pseudo(label, pseudo), known, balance)
            )
        return torch.stack(parts).sum()

    def _heads(
        self, logits: torch.Tensor, label: torch.Tensor, known: torch.Tensor, balance: float
    ) -> torch.Tensor:
        """Average the losses of deep supervision's heads, each of half the weight of the last."""
        activation = self._start.activation
        if logits.ndim == 5:
            return segmentation_loss(logits, label, known, activation, balance, self._nested)
        weights = [0.5**i for i in range(logits.shape[1])]
        losses = [
            weight * segmentation_loss(head, label, known, activation, balance, self._nested)
            for weight, head in zip(weights, logits.unbind(1), strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)

    def _forward(
        self, module: torch.nn.Module, batch: Batch, step_key: tuple[int, ...]
    ) -> torch.Tensor:
        image = batch.image.to(self._device, memory_format=torch.channels_last_3d)
        devices = [self._device] if self._device.type == "cuda" else []
        # Dropout draws from the global generator: from the step alone here, so that a
        # training that goes on draws what it would have drawn.
        with torch.random.fork_rng(devices=devices):
            seeds = np.random.SeedSequence((self._config.seed, *step_key, ranks.number()))
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


def _without_pseudo(label: torch.Tensor, pseudo: torch.Tensor) -> torch.Tensor:
    """Set organs that only networks labeled to 0 in a label of channels ``(B, X, Y, Z)``."""
    hidden = torch.zeros(len(label), IGNORED + 1, dtype=torch.bool, device=label.device)
    hidden[:, 1 : 1 + pseudo.shape[1]] = pseudo
    sample = torch.arange(len(label), device=label.device)[:, None, None, None]
    return label.masked_fill(hidden[sample, label.long()], 0)


def _channels(start: Checkpoint) -> tuple[torch.Tensor, list[int]]:
    """Return the output channel of each label value, ``(256,)``, and the organs' rows.

    What the network knows beside the structures in use has the last row, in which all is unknown.
    """
    table = torch.zeros(256, dtype=torch.uint8)
    table[IGNORED] = IGNORED
    for channel, organ in enumerate(start.organs, start=1):
        if organ in ORGAN_IDS:
            table[ORGAN_IDS[organ]] = channel
    for outer, parts in in_use().parts.items():  # a tumour that it does not know is the organ
        for value in parts:
            if not table[value]:
                table[value] = table[outer]
    return table, [ORGAN_IDS.get(organ, 0) - 1 for organ in start.organs]


def _nested(start: Checkpoint) -> list[tuple[int, int]]:
    """Return the outputs of each organ and of what lies within it, as far as both are known."""
    output = {ORGAN_IDS[name]: i for i, name in enumerate(start.organs) if name in ORGAN_IDS}
    return [
        (output[outer], output[inner])
        for outer, parts in in_use().parts.items()
        for inner in parts[1:]
        if outer in output and inner in output
    ]


def autocast(device: torch.device, amp: bool | None) -> AbstractContextManager[None]:
    """Return a context in which networks compute in bfloat16, if asked for or faster."""
    if amp is None:
        amp = _pays(device)
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=amp
    )
    return context


def _pays(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16: emulated it is much slower.

    GPUs have them from compute capability 8 on: a V100, T4 or RTX 8000 has none.
    """
    if device.type != "cuda":
        return bool(torch.cpu._is_avx512_bf16_supported())
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
