"""A whole campaign with an annotator who knows the truth, on an open studies folder.

Both kinds can be ended at any time and go on: :class:`Simulation` by the ledger and what was
measured after each phase, :func:`side_by_side` by the scores and what was measured of each volume.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from atlas8k.campaign.oracles import Corrected, Oracle, correct, touched, wanted
from atlas8k.campaign.reviewed import remaining, reviewed
from atlas8k.campaign.simulation import (
    FILE,
    ORACLE,
    Pair,
    Quality,
    SimulatedRound,
    Truth,
    quality,
)
from atlas8k.campaign.strategies import Compared, Pool, Strategy, compare
from atlas8k.core.errors import LedgerError
from atlas8k.core.files import publishing, read_json, write_json
from atlas8k.core.grid import Grid
from atlas8k.core.rankings import EQ4
from atlas8k.core.selection import RANKING, SELECTIONS
from atlas8k.metrics.overlap import dsc
from atlas8k.services.campaign import CampaignWork, is_open, last_training, learn
from atlas8k.services.simulated_strokes import Drawn, drawing

logger = logging.getLogger(__name__)

FEWEST_COMPARED = 4
"""Volumes of a pool."""


def side_by_side(
    work: CampaignWork,
    truth: Truth,
    *,
    seeds: int,
    rounds: int,
    share: float,
    below: float | None = None,
    oracle: Oracle = "everything",
    folder: Path | None = None,
    report: Callable[[str], None] = logger.info,
) -> dict[str, Compared]:
    """Compare every order of review on one pool, without fine-tuning.

    Parameters
    ----------
    truth
        Of every volume; what nobody knows is left out.
    seeds, rounds, share
        As :func:`~atlas8k.campaign.strategies.compare` has them; each seed draws three quarters.
    below
        As in :func:`~atlas8k.campaign.oracles.correct`.
    oracle
        Who corrects, :mod:`atlas8k.campaign.oracles`.
    folder
        What is measured of a volume is kept here, and not measured again.

    Raises
    ------
    LedgerError
        Fewer than four volumes have a score and a truth, or all have the same score.
    """
    report("predicting every volume")
    work.score()
    ledger, model_version = work.ledger, work.model_version()
    known = {ranking: ledger.candidates(model_version, ranking)
             for ranking in ledger.measured_rankings(model_version)}  # fmt: skip
    for ranking in [name for name, own in known.items() if len({one.score for one in own}) == 1]:
        report(f"{ranking} is left out: it tells no volume from another")
        known.pop(ranking)
    if EQ4 not in known:
        raise LedgerError("every volume has the same score: there is no order to compare")
    volumes = [one.volume for one in known[EQ4]]
    rows = [i for i, volume in enumerate(volumes) if volume in truth.files]
    if len(rows) < FEWEST_COMPARED:
        raise LedgerError(
            f"{len(rows)} volumes have a score and a true label; {FEWEST_COMPARED} are needed"
        )
    measured = []
    for row in rows:
        measured.append(_measured(work, truth, volumes[row], model_version, below, oracle, folder))
        corrected = ", ".join(measured[-1]["corrected"])
        report(f"{volumes[row]}: {corrected or 'as it is'}")

    def column(name: str) -> npt.NDArray[np.float64]:
        return np.array([one[name] for one in measured], dtype=np.float64)

    pool = Pool(
        {ranking: [own[row] for row in rows] for ranking, own in known.items()},
        *(column(name) for name in ("before", "after", "touched", "removed_ml")),
    )
    first = ledger.ranked_by() if ledger.ranked_by() in known else EQ4
    strategies = {ranking: Strategy(ranking, RANKING) for ranking in known}
    strategies |= {name: Strategy(first, name) for name in SELECTIONS if name != RANKING}
    size = max(FEWEST_COMPARED, round(0.75 * len(rows)))
    return compare(pool, strategies, seeds=seeds, rounds=rounds, share=share, size=size)


def _measured(
    work: CampaignWork,
    truth: Truth,
    volume: str,
    model_version: str,
    below: float | None,
    oracle: Oracle,
    folder: Path | None,
) -> dict[str, Any]:
    """Return what the oracle does to the draft label of a volume, measured once."""
    draft, grid = work.start(volume)
    stat = truth.files[volume].stat()
    key = {
        "model_version": model_version, "below": below,
        "draft": hashlib.sha256(draft.tobytes()).hexdigest(),
        "truth": [stat.st_size, stat.st_mtime_ns],
    }  # fmt: skip
    file = None if folder is None else folder / oracle / f"{quote(volume, safe='')}.json"
    if file is not None and (kept := read_json(file)) and kept["key"] == key:
        return kept
    true = truth.on(volume, grid)
    made = _corrected(work, volume, draft, true, grid, below, oracle)
    wrong = np.count_nonzero(draft != true) - np.count_nonzero(made.array != true)
    found = {
        "key": key,
        "before": _plain(dsc(draft, true)),
        "after": _plain(dsc(made.array, true)),
        "touched": touched(draft, made.array, grid.voxel_ml),
        "removed_ml": wrong * grid.voxel_ml,
        "corrected": made.corrected,
    }
    if file is not None:
        write_json(file, found)
    return found


def _corrected(
    work: CampaignWork,
    volume: str,
    draft: npt.NDArray[np.uint8],
    true: npt.NDArray[np.uint8],
    grid: Grid,
    below: float | None,
    oracle: Oracle,
) -> Corrected:
    """Return a draft label as the oracle leaves it."""
    right = wanted(
        oracle, draft, true,
        places=work.places(volume) if oracle == "places" else None,
        spacing_mm=grid.spacing, seed=zlib.crc32(volume.encode()),
    )  # fmt: skip
    return correct(draft, right, below)


def _plain(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


class Simulation:
    """See the module.

    Parameters
    ----------
    work
        Where the work is done.
    truth
        Of every volume.
    folder
        For what is measured; made if missing.
    below
        As in :func:`~atlas8k.campaign.oracles.correct`.
    oracle
        Who corrects, :mod:`atlas8k.campaign.oracles`.
    report
        Called with a line on what is done now.
    seconds_a_stroke
        Also tell how long the corrections would take with strokes of so many seconds;
        ``None``: do not.

    Raises
    ------
    LedgerError
        A volume has no truth, or the folder holds a simulation of another ledger.
    """

    def __init__(
        self,
        work: CampaignWork,
        truth: Truth,
        folder: Path,
        *,
        below: float | None = None,
        oracle: Oracle = "everything",
        report: Callable[[str], None] = logger.info,
        seconds_a_stroke: float | None = None,
    ) -> None:
        self._seconds_a_stroke = seconds_a_stroke
        self._work, self._truth, self._folder = work, truth, folder
        self._below, self._oracle, self._report = below, oracle, report
        missing = truth.missing(work.volumes())
        if missing:
            raise LedgerError(
                f"{truth.folder}: no true label of {', '.join(missing[:5])}"
                + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
                + "; the oracle must know every volume it may be given"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self.rounds = self._read()

    def run(self, rounds: int) -> list[SimulatedRound]:
        """Go through so many rounds in all, those done before an interruption included."""
        while sum(one.after is not None for one in self.rounds) < rounds:
            self._round()
        return self.rounds

    def _round(self) -> None:
        if not self.rounds or self.rounds[-1].after is not None:
            self._begin()
        now = self.rounds[-1]
        self._work.model_version()  # networks published before an interruption have ended it
        if is_open(self._work.ledger, now.round):
            self._review(now)
            if now.revised is None:
                now.revised = self._measure()
                self._write()
            self._report(f"round {now.round}: fine-tuning")
            learn(self._work, now.round)
        volumes = reviewed(self._work.ledger.worked(now.round))
        now.reviewed = len(volumes)
        now.organs_corrected = sum(len(one.wrong) for one in volumes.values())
        if self._seconds_a_stroke is not None:
            files = [read_json(self._drawn_file(now.round, volume)) for volume in volumes]
            # Those that were reviewed before anybody asked for it have none.
            rows = [Drawn(*one) for kept in files if kept for one in kept["drawn"]]
            now.drawing = drawing(sum(map(bool, files)), rows, self._seconds_a_stroke)
        now.training = last_training(self._work.ledger, now.round)
        self._report(f"round {now.round}: predicting with what is served now")
        self._work.score()
        now.after = self._measure()
        self._write()

    def _begin(self) -> None:
        self._report("predicting every volume")
        self._work.score()
        model_version = self._work.model_version()
        number, drawn = self._work.ledger.begin_round(model_version)
        if not drawn:
            raise LedgerError(
                f"round {number} has no list: no volume is left that has a score and was not "
                "submitted; there is nothing more to simulate"
            )
        before = self.rounds[-1].after if self.rounds else None
        self.rounds.append(
            SimulatedRound(
                round=number, model_version=model_version, before=before or self._measure()
            )
        )
        self._write()

    def _review(self, now: SimulatedRound) -> None:
        ledger = self._work.ledger
        for held in ledger.leases():  # what it had in hand when it was interrupted
            if held.holder == ORACLE.key:
                self._correct(now, held.volume, held.id)
        while True:
            budget, plan = ledger.budget(), ledger.plan(now.round)
            if budget is None or not remaining(plan, budget, ledger.to_review()):
                return
            sample = ledger.next_sample(holder=ORACLE, model_version=now.model_version)
            if sample is None:
                return
            if sample.over_budget:
                ledger.release(sample.volume, ORACLE)
                return
            self._correct(now, sample.volume, sample.lease)

    def _correct(self, now: SimulatedRound, volume: str, lease: int) -> None:
        start, grid = self._work.start(volume)
        true = self._truth.on(volume, grid)
        made = _corrected(self._work, volume, start, true, grid, self._below, self._oracle)
        if self._seconds_a_stroke is not None:
            file = self._drawn_file(now.round, volume)
            if not file.exists():  # before the label is another
                seed = zlib.crc32(volume.encode())
                drawn = self._work.strokes(volume, start, made.array, seed)
                write_json(file, {"drawn": drawn})
        self._work.submit(volume, made.array, grid, made.absent, ORACLE, lease)
        self._report(f"round {now.round}: {volume}: {', '.join(made.corrected) or 'as it was'}")

    def _drawn_file(self, number: int, volume: str) -> Path:
        return self._folder / "strokes" / f"{number}-{quote(volume, safe='')}.json"

    def _measure(self) -> Quality:
        statuses = self._work.ledger.statuses()
        seen = frozenset(v for v, s in statuses.items() if s in ("submitted", "conflict"))
        return quality(self._pairs(), seen)

    def _pairs(self) -> Iterator[tuple[str, Pair]]:
        for volume in self._work.volumes():
            label, grid = self._work.start(volume)
            yield volume, (label, self._truth.on(volume, grid))

    @property
    def _key(self) -> dict[str, Any]:
        return {
            "ledger": str(self._work.ledger.path), "below": self._below, "oracle": self._oracle,
        }  # fmt: skip

    def _read(self) -> list[SimulatedRound]:
        path = self._folder / FILE
        if not path.exists():
            return []
        kept = {"oracle": "everything", **json.loads(path.read_text(encoding="utf-8"))}
        if {key: kept.get(key) for key in self._key} != self._key:
            raise LedgerError(
                f"{path}: of another simulation ({kept.get('ledger')}, below "
                f"{kept.get('below')}, oracle {kept['oracle']}); choose another --out, or delete it"
            )
        return [SimulatedRound.model_validate(one) for one in kept["rounds"]]

    def _write(self) -> None:
        rounds = [one.model_dump(mode="json") for one in self.rounds]
        text = json.dumps({"version": 1, **self._key, "rounds": rounds}, indent=1)
        with publishing(self._folder / FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
