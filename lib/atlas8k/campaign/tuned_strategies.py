"""Run orders of review with fine-tuning between the rounds, so that it can be ended at any time.

Every strategy begins with the same networks and the same part of a pool. A round draws its list as
a campaign does, an oracle corrects these volumes, networks are fine-tuned on all that was corrected
so far, and predict again. What is known of a stage is written when the stage is whole, its
``stage.json`` last: a run that was ended, or killed, goes on with the first stage that has none.

    FOLDER/start/                         the first networks: what they predict of the whole pool
    FOLDER/ORACLE/STRATEGY/seed_N/round_R/
        networks/       fine-tuned after the round
        reviewed.npz    labels as the oracle left them
        predicted.npz   pseudo labels and places of what nobody has seen, by these networks
        stage.json      what was measured

What the networks, the CTs and the truth are is the caller's (:class:`Workplace`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from atlas8k.campaign.oracles import Oracle, correct, touched, wanted
from atlas8k.campaign.strategies import (
    Compared,
    Course,
    Later,
    Pool,
    Strategy,
    compared,
    course,
    part_of,
)
from atlas8k.core.errors import LedgerError
from atlas8k.core.files import publishing, write_json
from atlas8k.core.rankings import RANKINGS
from atlas8k.core.selection import Candidate, drawn
from atlas8k.metrics.overlap import dsc

logger = logging.getLogger(__name__)

STAGE, REVIEWED, PREDICTED, NETWORKS = "stage.json", "reviewed.npz", "predicted.npz", "networks"
PLAN = "plan.json"

Labels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


class Seen(NamedTuple):
    """One volume as networks see it.

    Attributes
    ----------
    volume
        Its name.
    label
        ``(X, Y, Z)`` uint8, the pseudo label: organ ids.
    places
        ``(X, Y, Z)`` bool: shown as places to look at.
    figures
        By ranking and organ, as the ledger keeps them.
    traits
        What lists are drawn by beside, see :func:`atlas8k.core.selection.traits_of`.
    """

    volume: str
    label: Labels
    places: npt.NDArray[np.bool_]
    figures: Mapping[str, Mapping[str, float | None]]
    traits: Mapping[str, Any]


class Workplace(Protocol):
    """Networks, CTs and their truth."""

    @property
    def volumes(self) -> Sequence[str]:
        """Names of the pool's volumes."""

    @property
    def first_networks(self) -> Path:
        """Folder of the networks that every strategy begins with."""

    def predict(self, networks: Path, volumes: Sequence[str]) -> Iterable[Seen]:
        """Yield what the networks of a folder see in volumes."""

    def truth(self, volume: str) -> tuple[Labels, tuple[float, float, float]]:
        """Return a volume's true label, and the size of its voxels, mm."""

    def train(self, networks: Path, labels: Mapping[str, Labels], out: Path, seed: int) -> None:
        """Fine-tune the networks of a folder on labels by volume, and write all to another.

        What is in ``out`` from a training that was ended may be gone on with.
        """

    def held_out(self, networks: Path) -> Mapping[str, Sequence[Sequence[float]]]:
        """Return DSC on CTs that no strategy may review, by network, CT and organ."""


@dataclass(frozen=True)
class Plan:
    """How strategies are run; kept with the results, which are of this plan alone.

    Attributes
    ----------
    seeds, rounds, budget
        Budget: volumes a round.
    size
        Volumes that a seed draws from the pool, the same for all strategies.
    oracle
        Who corrects.
    """

    seeds: int
    rounds: int
    budget: int
    size: int
    oracle: Oracle = "everything"


def run(
    place: Workplace,
    strategies: Mapping[str, Strategy],
    plan: Plan,
    folder: Path,
    report: Callable[[str], None] = logger.info,
) -> None:
    """Do all that has not been done: every round of every strategy, seed by seed.

    Raises
    ------
    LedgerError
        The folder holds results of another plan or pool, or the pool is too small.
    """
    if plan.rounds * plan.budget > plan.size or plan.size > len(place.volumes):
        raise LedgerError(
            f"{plan.rounds} rounds of {plan.budget} volumes need as many in each seed's part, and "
            f"the pool that many: there are {plan.size} of {len(place.volumes)}"
        )
    _same_plan(folder / plan.oracle / PLAN, place, plan)
    start = folder / "start"
    if not (start / STAGE).exists():
        report("predicting the pool")
        _measure(place, place.first_networks, place.volumes, start, {})
    for seed in range(plan.seeds):
        for name, strategy in strategies.items():
            for number in range(1, plan.rounds + 1):
                done = round_folder(folder, plan, name, seed, number)
                if not (done / STAGE).exists():
                    report(f"{plan.oracle}, seed {seed}, {name}, round {number}")
                    _round(place, strategy, plan, folder, name, seed, number)


def _same_plan(path: Path, place: Workplace, plan: Plan) -> None:
    asked = {
        "rounds": plan.rounds, "budget": plan.budget, "size": plan.size, "oracle": plan.oracle,
        "volumes": list(place.volumes),
    }  # fmt: skip
    if not path.exists():
        write_json(path, asked)
    elif json.loads(path.read_text(encoding="utf-8")) != asked:
        raise LedgerError(f"{path}: results of another plan are there; choose another folder")


def round_folder(folder: Path, plan: Plan, strategy: str, seed: int, number: int) -> Path:
    """Return the folder of a strategy's round; round 0 is the start of all."""
    if number == 0:
        return folder / "start"
    return folder / plan.oracle / strategy / f"seed_{seed}" / f"round_{number}"


def _round(
    place: Workplace,
    strategy: Strategy,
    plan: Plan,
    folder: Path,
    name: str,
    seed: int,
    number: int,
) -> None:
    """Draw, correct, fine-tune, predict and measure one round."""
    begun = time.perf_counter()
    here = round_folder(folder, plan, name, seed, number)
    before = round_folder(folder, plan, name, seed, number - 1)
    part = [place.volumes[row] for row in part_of(len(place.volumes), plan.size, seed)]
    earlier = [round_folder(folder, plan, name, seed, r) for r in range(1, number)]
    taken = {volume for done in earlier for volume in _stage(done)["reviewed"]}
    known = _stage(before)
    pool = [
        _candidate(strategy.ranking, volume, known["volumes"][volume])
        for volume in part
        if volume not in taken
    ]
    chosen = drawn(strategy.selection, pool, plan.budget, str(seed), number)[: plan.budget]
    labels, reviewed = {}, {}
    with np.load(before / PREDICTED) as predicted:
        for volume in chosen:
            labels[volume], reviewed[volume] = _corrected(place, plan.oracle, volume, predicted)
    _save(here / REVIEWED, labels)
    every = dict(labels)
    for done in earlier:
        with np.load(done / REVIEWED) as stored:
            every |= {volume: stored[volume] for volume in stored.files}
    networks = before / NETWORKS if number > 1 else place.first_networks
    place.train(networks, every, here / NETWORKS, 1000 * seed + number)
    trained = time.perf_counter()
    seconds = {"until_trained": round(trained - begun, 1)}
    rest = [volume for volume in part if volume not in taken and volume not in reviewed]
    _measure(place, here / NETWORKS, rest, here, {"reviewed": reviewed, "seconds": seconds})


def _corrected(
    place: Workplace, oracle: Oracle, volume: str, predicted: Mapping[str, npt.NDArray[Any]]
) -> tuple[Labels, dict[str, Any]]:
    """Return a label as the oracle leaves it, and what is known of it."""
    truth, spacing = place.truth(volume)
    draft = predicted[f"{volume} label"]
    shown = np.unpackbits(predicted[f"{volume} places"], count=draft.size).astype(bool)
    right = wanted(
        oracle, draft, truth,
        places=shown.reshape(draft.shape), spacing_mm=spacing, seed=place.volumes.index(volume),
    )  # fmt: skip
    made = correct(draft, right).array
    voxel_ml = float(np.prod(spacing)) / 1000
    return made, {
        "after": _plain(dsc(made, truth)),
        "touched": touched(draft, made, voxel_ml),
        "wrong_ml": float(np.count_nonzero(made != truth)) * voxel_ml,
    }


def _measure(
    place: Workplace, networks: Path, volumes: Sequence[str], out: Path, more: Mapping[str, Any]
) -> None:
    """Write what networks predict of volumes and how good that is, ``stage.json`` last."""
    begun = time.perf_counter()
    arrays: dict[str, npt.NDArray[Any]] = {}
    known: dict[str, Any] = {}
    for seen in place.predict(networks, volumes):
        truth, spacing = place.truth(seen.volume)
        arrays[f"{seen.volume} label"] = seen.label
        arrays[f"{seen.volume} places"] = np.packbits(seen.places)
        known[seen.volume] = {
            "dsc": _plain(dsc(seen.label, truth)),
            "wrong_ml": float(np.count_nonzero(seen.label != truth) * np.prod(spacing)) / 1000,
            "figures": seen.figures,
            "traits": seen.traits,
        }
    _save(out / PREDICTED, arrays)
    held_out = {
        name: [_plain(row) for row in rows] for name, rows in place.held_out(networks).items()
    }
    seconds = more.get("seconds", {}) | {"measured": round(time.perf_counter() - begun, 1)}
    write_json(out / STAGE, {**more, "volumes": known, "held_out": held_out, "seconds": seconds})


def _candidate(ranking: str, volume: str, known: Mapping[str, Any]) -> Candidate:
    figures = known["figures"][ranking]
    return Candidate.of(
        volume, RANKINGS[ranking].score(figures.values()), figures, known["traits"], ""
    )


def _plain(values: Iterable[float]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


def _save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    with publishing(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)


def _stage(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / STAGE).read_text(encoding="utf-8"))
    return found


# --- what was found ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Found:
    """What is known of strategies, of the seeds in which each of them has all its rounds.

    Attributes
    ----------
    compared
        By strategy; empty where no seed is whole.
    held_out
        By strategy and network ``(seeds, rounds + 1)`` mean DSC on held-out CTs: mean over organs
        of the mean over CTs, at the start and after each round.
    seeds
        Those that count.
    """

    compared: Mapping[str, Compared]
    held_out: Mapping[str, Mapping[str, Floats]]
    seeds: tuple[int, ...]


def results(folder: Path, strategies: Iterable[str], plan: Plan, volumes: Sequence[str]) -> Found:
    """Return what is known so far of strategies, those of a run that still goes on included."""
    names = list(strategies)
    whole = tuple(
        seed
        for seed in range(plan.seeds)
        if all(
            (round_folder(folder, plan, name, seed, number) / STAGE).exists()
            for name in names
            for number in range(plan.rounds + 1)
        )
    )
    courses: dict[str, list[Course]] = {name: [] for name in names}
    held_out: dict[str, dict[str, Floats]] = {}
    for name in names:
        rows: dict[str, list[list[float]]] = {}
        for seed in whole:
            stages = [
                _stage(round_folder(folder, plan, name, seed, number))
                for number in range(plan.rounds + 1)
            ]
            part = [volumes[row] for row in part_of(len(volumes), plan.size, seed)]
            courses[name].append(_course(stages, part))
            for network in stages[0]["held_out"]:
                rows.setdefault(network, []).append(
                    [_mean_dsc(stage["held_out"][network]) for stage in stages]
                )
        held_out[name] = {network: np.array(values) for network, values in rows.items()}
    return Found(compared(courses) if whole else {}, held_out, whole)


def _course(stages: Sequence[Mapping[str, Any]], part: Sequence[str]) -> Course:
    """Return the course of one strategy and seed."""
    first = stages[0]["volumes"]
    row = {volume: index for index, volume in enumerate(part)}

    def column(known: Mapping[str, Any], key: str) -> Floats:
        # A volume that somebody has seen is not predicted again: what it holds is the first's.
        return np.array([known.get(v, first[v])[key] for v in part], dtype=np.float64)

    wrong = column(first, "wrong_ml")
    after = np.full((len(part), len(first[part[0]]["dsc"])), np.nan)
    organs, removed_ml = np.zeros(len(part)), wrong.copy()
    order: list[int] = []
    later = []
    for stage in stages[1:]:
        for volume, one in stage["reviewed"].items():
            at = row[volume]
            order.append(at)
            after[at] = np.array(one["after"], dtype=np.float64)
            organs[at] = one["touched"]
            removed_ml[at] = wrong[at] - one["wrong_ml"]
        known = stage["volumes"]
        later.append(Later(len(order), column(known, "dsc"), wrong - column(known, "wrong_ml")))
    pool = Pool({}, column(first, "dsc"), after, organs, removed_ml)
    return course(pool, order, later)


def _mean_dsc(rows: Sequence[Sequence[float | None]]) -> float:
    """Return the mean over organs of means over CTs."""
    values = np.array(rows, dtype=np.float64)
    return float(np.nanmean(np.nanmean(values[:, np.isfinite(values).any(axis=0)], axis=0)))
