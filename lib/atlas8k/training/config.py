"""Settings of a training: one frozen record that is stored with its result."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Optimiser(BaseModel):
    """Optimiser and learning rate of one network.

    Attributes
    ----------
    kind
        ``adam`` (decoupled weight decay) or ``sgd`` (Nesterov, momentum 0.99).
    lr, weight_decay
        Peak learning rate and weight decay.
    schedule
        Course of the rate after the warm-up: half a ``cosine``, or ``polynomial`` with
        nnU-Net's exponent of 0.9.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-4, gt=0, le=1)
    weight_decay: float = Field(1e-5, ge=0, le=1)
    schedule: Literal["cosine", "polynomial"] = "cosine"


PAPER = {
    "swin_unetr": Optimiser(kind="adam", lr=1e-4, weight_decay=1e-5),
    "unet": Optimiser(kind="adam", lr=1e-4, weight_decay=1e-5),
    "nnunet": Optimiser(kind="sgd", lr=1e-2, weight_decay=3e-5, schedule="polynomial"),
}
"""As in the AbdomenAtlas-8K paper, for thousands of volumes and tens of hours."""

FINE_TUNING = dict.fromkeys(PAPER, Optimiser(kind="adam", lr=1e-4, weight_decay=1e-5))
"""For a round's few labels. The embedded nnU-Net after 200 steps on one phantom, mean DSC on
four others: 0.919 before, 0.839 with the paper's SGD at 1e-2, 0.892 with this."""

FROM_SCRATCH = {
    "swin_unetr": Optimiser(kind="adam", lr=1.5e-3, weight_decay=1e-2),
    "unet": Optimiser(kind="adam", lr=3e-3, weight_decay=1e-2),
    "nnunet": Optimiser(kind="adam", lr=3e-3, weight_decay=1e-2),
}
"""For random weights and minutes, not weeks: a large rate that decays to nothing."""


class TrainingConfig(BaseModel):
    """Settings of a training; unknown ones are refused.

    Attributes
    ----------
    epochs, steps_per_epoch, batch_size
        Number of epochs, of optimiser steps in each, and of patches a step and process.
    accumulate
        Number of batches a step, one after another: a larger batch in the same memory.
    minutes
        Time for one network, with preparing its volumes and the measurement at its end.
        Where given, the learning rate follows the clock instead of the epochs, and
        ``epochs`` is no bound; see :mod:`.time_budget`.
    optimisers
        By network name; others get the first default of :data:`PAPER`. Or the name of a
        whole set: ``paper``, ``fine_tuning`` or ``from_scratch``.
    patch
        Voxels of a training patch; ``None`` for the network's own window. Of a network that
        sees whole volumes, the largest: a patch is as large as the volume up to there.
    balance
        Probability that a patch is centred on an organ, each known one alike, instead of
        anywhere.
    balance_loss
        How much more a voxel of a small organ counts in the loss at the beginning
        (:func:`~atlas8k.training.losses.segmentation_loss`); from the middle of the
        training on it falls to 0.
    augment
        Strength of the augmentation: 0 is none, 1 the usual.
    narrow
        How often a network that sees whole volumes gets a part of one instead, as a scan of
        a narrow field of view would: a share of every side, drawn anew each time.
    averaging
        Decay per step of the exponential moving average of the weights, which is what a
        training returns; 0 returns the last weights.
    warm_up
        Share of the training in which the learning rate rises.
    pseudo_weight
        Weight of a pseudo label beside one that a person vouches for, 0 to 1; at 0 the
        loss does not use it.
    validation
        Share of the cases that are kept out to measure on, by a hash of their names.
    validate_every
        Epochs between measurements; the last epoch is always measured.
    memory_mb
        Bound on the prepared volumes held at once.
    turnover
        Where they do not all fit: the number of cases exchanged with every epoch; 0: as many
        as it takes to meet all of them.
    cache_gb
        Prepared volumes may take this on disk while a training runs; 0 keeps none.
    seed, device, workers, amp
        Workers prepare the next patches beside the training; ``amp`` computes in
        bfloat16, ``None`` where the processor or GPU has instructions for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(20, ge=1, le=100_000)
    steps_per_epoch: int = Field(50, ge=1, le=100_000)
    batch_size: int = Field(2, ge=1, le=64)
    accumulate: int = Field(1, ge=1, le=1024)
    minutes: float | None = Field(None, gt=0)
    optimisers: dict[str, Optimiser] = Field(default_factory=lambda: dict(PAPER))
    patch: tuple[int, int, int] | None = None
    balance: float = Field(0.67, ge=0, le=1)
    balance_loss: float = Field(0.0, ge=0, le=1)
    augment: float = Field(1.0, ge=0, le=2)
    narrow: float = Field(0.0, ge=0, le=1)
    averaging: float = Field(0.99, ge=0, lt=1)
    warm_up: float = Field(0.05, ge=0, lt=1)
    pseudo_weight: float = Field(0.0, ge=0, le=1)
    validation: float = Field(0.1, ge=0, lt=1)
    validate_every: int = Field(5, ge=1)
    memory_mb: int = Field(2048, ge=16)
    turnover: int = Field(0, ge=0)
    cache_gb: float = Field(20.0, ge=0, le=1_000_000)
    seed: int = Field(0, ge=0)
    device: str = "cpu"
    workers: int = Field(1, ge=0, le=16)
    amp: bool | None = None

    @field_validator("optimisers", mode="before")
    @classmethod
    def _preset(cls, value: object) -> object:
        if isinstance(value, str):
            sets = {"paper": PAPER, "fine_tuning": FINE_TUNING, "from_scratch": FROM_SCRATCH}
            if value not in sets:
                raise ValueError(f"{value!r} is none of {', '.join(sets)}")
            return dict(sets[value])
        return value

    @field_validator("patch")
    @classmethod
    def _positive(cls, value: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if value is not None and min(value) < 8:
            raise ValueError("a patch needs at least 8 voxels along each axis")
        return value

    @classmethod
    def fine_tuning(cls, **settings: Any) -> Self:
        """Return settings for trained networks and few labels."""
        return cls(**{"optimisers": dict(FINE_TUNING), **settings})

    @classmethod
    def from_scratch(cls, **settings: Any) -> Self:
        """Return settings for networks with random weights."""
        return cls(
            **{
                "optimisers": dict(FROM_SCRATCH),
                "averaging": 0.995,
                "balance_loss": 1.0,
                **settings,
            }
        )

    def optimiser_for(self, name: str) -> Optimiser:
        """Return the optimiser of the network of that name."""
        return self.optimisers.get(name, PAPER["unet"])
