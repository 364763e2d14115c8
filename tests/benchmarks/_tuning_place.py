"""Small networks and synthetic CTs on which a campaign with fine-tuning can be run in an hour.

Everything is made from seeds and kept in a work folder: CTs of 6 mm, half of them wide phantoms
and half painted on the four bodies with an abdomen; the embedded U-Net and nnU-Net, which were
trained at 4 mm, brought to 6 mm with a few steps on eight partly labeled CTs, as step 1 of the
procedure has it; and what is learnt of their errors on 24 more, for ``expected_error``. CTs painted
on s0327 and s0009 are for judging the networks alone. Two networks: one has nobody to differ from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _data import BODIES
from _quality_cases import EMBEDDED

TRAINED_BODIES = ("s0001", "s0004", "s0006", "s0328")
HELD_OUT = ("s0327", "s0009")
START, LEARNT, POOL, JUDGED = 61_000, 62_000, 63_000, 64_000
"""First seeds; no other training or benchmark paints these."""
PATCH = (48, 48, 48)
PER_EPOCH, START_RATE = 20, 1e-3
WHOLE = 16
"""Sides of what the networks see are multiples of this: nnU-Net's halvings."""


@dataclass(frozen=True)
class Scale:
    """How much of everything: as it is reported, or as the quick form has it."""

    mm: float = 6.0
    networks: tuple[str, ...] = ("unet", "nnunet")
    started_on: int = 8
    learnt_from: int = 24
    pool: int = 60
    judged: int = 8
    start_steps: int = 100
    steps: int = 60
    bodies: bool = True
    """Phantoms alone take less time to make."""


class Cts:
    """CTs of seeds, painted once: even numbers are phantoms, odd ones painted on bodies."""

    def __init__(self, folder: Path, mm: float, bodies: bool) -> None:
        self.folder, self.mm, self.painted = folder, mm, bodies

    @cached_property
    def bodies(self) -> Any:
        from abdomen_phantom.bodies import read_bodies

        return read_bodies(BODIES, TRAINED_BODIES)

    def pair(self, seed: int, subject: str | None = None) -> tuple[Any, Any]:
        """CT and truth of a seed, on one RAS grid of that spacing."""
        from atlas8k.core.files import publishing
        from atlas8k.core.volume import Grid, Volume

        path = self.folder / f"{subject or 'ct'}_{seed}.npz"
        if not path.exists():
            made = self._paint(seed, subject)
            with publishing(path) as temporary, open(temporary, "wb") as stream:
                affine = made.ct.grid.affine
                np.savez_compressed(stream, ct=made.ct.array, label=made.label.array, affine=affine)
        with np.load(path) as stored:
            grid = Grid(stored["ct"].shape, stored["affine"])
            return Volume(stored["ct"], grid), Volume(stored["label"], grid)

    def _paint(self, seed: int, subject: str | None) -> Any:
        from abdomen_phantom import WIDE, generate
        from abdomen_phantom.bodies import paint_body, read_bodies

        if subject is not None:
            return paint_body(read_bodies(BODIES, [subject]), seed, grid_spacing_mm=self.mm)
        if seed % 2 and self.painted:
            return paint_body(self.bodies, seed, grid_spacing_mm=self.mm)
        return generate(seed, WIDE, grid_spacing_mm=self.mm)


@dataclass(frozen=True, eq=False)
class LabeledCt:
    """A CT to train on, with the label that somebody has given it."""

    name: str
    ct: Any
    label: Any
    known_organs: tuple[str, ...]
    pseudo_organs: tuple[str, ...] = ()
    patient: str = ""

    def load(self, preprocessing: Any) -> Any:
        """Bring it onto the networks' grid."""
        from atlas8k.training.data import prepare_case

        return prepare_case(self.name, self.ct, self.label, self.known_organs, preprocessing)


class Place:
    """See :class:`atlas8k.campaign.tuned_strategies.Workplace`."""

    def __init__(self, work: Path, scale: Scale) -> None:
        import torch

        torch.set_num_threads(1)
        self.scale, self.work = scale, work
        self.cts = Cts(work / f"cts_{scale.mm:g}mm", scale.mm, scale.bodies)
        self.first_networks = work / "networks"

    @property
    def volumes(self) -> list[str]:
        """The pool by name."""
        return [f"ct_{POOL + i}" for i in range(self.scale.pool)]

    def truth(self, volume: str) -> tuple[np.ndarray, tuple[float, float, float]]:
        """The true label and the size of its voxels, mm."""
        _, label = self.pair(volume)
        return label.array, (self.scale.mm,) * 3

    def pair(self, volume: str) -> tuple[Any, Any]:
        """CT and truth of a volume of the pool."""
        return self.cts.pair(int(volume.removeprefix("ct_")))

    # --- networks ----------------------------------------------------------------------------

    def start(self) -> None:
        """Train the first networks, and learn of their errors, where they are not there."""
        from atlas8k.attention.quality_model import QUALITY_FILE
        from atlas8k.core.files import write_json
        from atlas8k.models.checkpoint import load_checkpoint
        from atlas8k.training.config import Optimiser

        partly = [self._partly_labeled(i) for i in range(self.scale.started_on)]
        for name in self.scale.networks:
            start = at_spacing(load_checkpoint(EMBEDDED / f"{name}.safetensors"), self.scale.mm)
            rate = {"optimisers": {name: Optimiser(lr=START_RATE)}}
            self._train(start, partly, self.first_networks, 0, self.scale.start_steps, **rate)
        if self.scale.learnt_from and not (self.first_networks / QUALITY_FILE).exists():
            model = self._learnt()
            write_json(self.first_networks / QUALITY_FILE, model.as_dict())

    def _partly_labeled(self, number: int) -> LabeledCt:
        """A CT as of a public dataset: a third of the organs is not labeled."""
        from atlas8k.core.structures import ORGAN_NAMES

        ct, label = self.cts.pair(START + number)
        known = tuple(o for j, o in enumerate(ORGAN_NAMES) if (number + j) % 3)
        return LabeledCt(f"start_{number}", ct, label, known)

    def train(self, networks: Path, labels: Mapping[str, np.ndarray], out: Path, seed: int) -> None:
        """Train on with the first labels and those of the rounds."""
        from atlas8k.core.structures import ORGAN_NAMES
        from atlas8k.core.volume import Volume
        from atlas8k.models.checkpoint import load_checkpoint

        cases = [self._partly_labeled(i) for i in range(self.scale.started_on)]
        for volume, label in sorted(labels.items()):
            ct, _ = self.pair(volume)
            cases.append(LabeledCt(volume, ct, Volume(label, ct.grid), ORGAN_NAMES))
        for name in self.scale.networks:
            start = load_checkpoint(networks / f"{name}.safetensors")
            self._train(start, cases, out, seed, self.scale.steps)

    def _train(
        self, start: Any, cases: Sequence[Any], out: Path, seed: int, steps: int, **more: Any
    ) -> None:
        """One network, with the project's loop and fine-tuning rates; nothing if it is there."""
        from atlas8k.models.checkpoint import save_checkpoint
        from atlas8k.training.config import TrainingConfig
        from atlas8k.training.loop import train_network

        path = out / f"{start.name}.safetensors"
        if path.exists():
            return
        config = TrainingConfig.fine_tuning(
            epochs=max(1, steps // PER_EPOCH), steps_per_epoch=min(steps, PER_EPOCH), batch_size=1,
            averaging=0.97, balance=0.0, workers=0, patch=PATCH, seed=seed, **more,
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        state = path.with_suffix(".state")
        made = train_network(start, cases, config, state_path=state)
        save_checkpoint(path, made, half=False)
        state.unlink(missing_ok=True)

    # --- what they see -------------------------------------------------------------------------

    def predict(self, networks: Path, volumes: Sequence[str]) -> Iterator[Any]:
        """What the networks see in volumes of the pool."""
        from atlas8k.attention import SalientSettings
        from atlas8k.attention.quality_model import QUALITY_FILE, read_quality
        from atlas8k.campaign.tuned_strategies import Seen
        from atlas8k.models.regrid import nearest
        from atlas8k.services.prediction.answers import Answers
        from atlas8k.services.prediction.expected import Expected

        predictor = self._predictor(networks)
        model = read_quality(self.first_networks / QUALITY_FILE) if self.scale.learnt_from else None
        for volume in volumes:
            ct, _ = self.pair(volume)
            prediction = predictor.predict(ct)
            answers = Answers.of(prediction, SalientSettings(), volume, ct)
            expected = Expected.of(prediction, answers.labels[0], ct, model)
            answers = replace(answers, expected=expected)
            scores = answers.organ_scores()
            known = {ranking for score in scores.values() for ranking in score.figures} | {"eq4"}
            yield Seen(
                volume,
                answers.label_on(ct.grid),
                nearest(answers.attention_label(), answers.grid, ct.grid) > 0,
                {r: {o: score.figure(r) for o, score in scores.items()} for r in sorted(known)},
                answers.traits(),
            )

    def held_out(self, networks: Path) -> dict[str, list[list[float]]]:
        """DSC on CTs painted on bodies that nothing was trained on, by network, CT and organ."""
        from atlas8k.metrics.overlap import dsc

        predictor = self._predictor(networks)
        rows: dict[str, list[list[float]]] = {}
        for number in range(self.scale.judged):
            subject = HELD_OUT[number % len(HELD_OUT)] if self.scale.bodies else None
            ct, truth = self.cts.pair(JUDGED + number, subject)
            prediction = predictor.predict(ct)
            for name in (None, *prediction.names):
                values = dsc(prediction.label_on(ct.grid, name), truth.array)
                rows.setdefault(name or "ensemble", []).append([float(v) for v in values])
        return rows

    def _predictor(self, networks: Path) -> Any:
        from atlas8k.models.checkpoint import load_checkpoint
        from atlas8k.models.predict import Predictor

        files = {name: networks / f"{name}.safetensors" for name in self.scale.networks}
        loaded = {name: load_checkpoint(path) for name, path in files.items()}
        return Predictor(loaded, grid_mm=self.scale.mm)

    def _learnt(self) -> Any:
        """Fit what is to be expected of the first networks to CTs they have not seen."""
        from _quality_examples import example_of

        from atlas8k.attention.quality_fit import fit
        from atlas8k.attention.slabs import quantise
        from atlas8k.attention.thinned import thinned, thinned_ct
        from atlas8k.models.regrid import nearest

        predictor, examples = self._predictor(self.first_networks), []
        for number in range(self.scale.learnt_from):
            ct, truth = self.cts.pair(LEARNT + number)
            prediction = predictor.predict(ct)
            grid, pseudo = prediction.grid, prediction.label()
            volume = thinned(quantise(prediction.probs), pseudo, grid, thinned_ct(grid, ct))
            true = nearest(truth.array, truth.grid, grid)
            examples.append(example_of(volume, pseudo, true, grid, number))
        return fit(examples, f"{len(examples)} synthetic CTs", len(self.scale.networks))


def at_spacing(checkpoint: Any, mm: float) -> Any:
    """A network set to see CTs whole at another spacing."""
    wide = {"spacing_mm": (mm,) * 3, "whole": WHOLE, "window_size": (96, 96, 96)}
    return replace(checkpoint, preprocessing=replace(checkpoint.preprocessing, **wide))
