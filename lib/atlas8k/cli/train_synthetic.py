"""Choose the synthetic CTs of ``atlas8k train``: phantoms, and CTs painted on real bodies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas8k.training.generated import GeneratedCase

FIRST_SEED = 20_000
"""First seed of training. Lower ones are for samples and tests, 10,000 to 10,999 for
benchmarks."""
MEASURED_ON = 6
"""CTs of a kind that progress is measured on; their seeds are before :data:`FIRST_SEED`."""
AT_FIRST = 300
"""Painted CTs made before a training begins; the others are painted in the background."""
PHANTOMS = "wide"
"""Setting of the phantoms: bodies that spread as people do."""
ATTRIBUTION = "TotalSegmentator dataset, Wasserthal et al. 2023, CC BY 4.0"
"""Attribution of the maps that CTs are painted on; their licence asks for it."""


@dataclass(frozen=True)
class SyntheticSet:
    """Cases to train and to measure on.

    Attributes
    ----------
    record
        Record of them in a checkpoint.
    first
        Cases in the order of their use in a training.
    """

    cases: Sequence[GeneratedCase]
    held_out: Sequence[GeneratedCase]
    record: Mapping[str, Any]
    first: Sequence[GeneratedCase]

    @contextmanager
    def make_in_background(self) -> Iterator[None]:
        """Make missing CTs in a second process while the block runs."""
        from atlas8k.training import ranks
        from atlas8k.training.generated import make_in_background

        if not ranks.first():
            yield
            return
        with make_in_background(self.first):
            yield


def synthetic_set(
    folder: Path,
    phantoms: int,
    bodies: Path | None,
    subjects: Sequence[str],
    painted: int,
    seed: int,
) -> SyntheticSet:
    """Make the CTs that a training needs first, in as many processes as there are processors.

    Parameters
    ----------
    folder
        Folder of the CTs, about 1 MB each.
    phantoms, painted
        Number of each; `painted` only where there is a folder of `bodies`.
    subjects
        Names of the bodies; all where empty.
    seed
        Seed of the training, which decides which CTs come first.

    Raises
    ------
    VolumeError, TrainingError
        The bodies cannot be used.
    """
    from rich.progress import Progress as Bar

    from atlas8k.training import ranks
    from atlas8k.training.generated import PhantomTrainingCase, alone, body_cases, make_missing
    from atlas8k.training.patches import training_order

    folder.mkdir(parents=True, exist_ok=True)
    start = FIRST_SEED - MEASURED_ON
    cases: list[GeneratedCase] = []
    held_out: list[GeneratedCase] = []
    record: dict[str, Any] = {"first_seed": FIRST_SEED}
    if phantoms:
        seeds = range(start, FIRST_SEED + phantoms)
        on_phantoms = [PhantomTrainingCase(number, folder, PHANTOMS) for number in seeds]
        held_out += on_phantoms[:MEASURED_ON]
        cases += on_phantoms[MEASURED_ON:]
        record |= {"phantoms": phantoms, "setting": PHANTOMS}
    if bodies is not None:
        on_bodies = body_cases(painted + MEASURED_ON, start, folder, bodies.resolve(), subjects)
        held_out += on_bodies[:MEASURED_ON]
        cases += on_bodies[MEASURED_ON:]
        record |= {
            "painted": painted,
            "bodies": list(on_bodies[0].subjects),
            "attribution": ATTRIBUTION,
        }
    first = training_order(cases, seed)
    at_first = [*held_out, *(first if bodies is None else first[:AT_FIRST])]
    # Where all are there, a training beside this one may be making the others.
    if ranks.first() and not all(case.path.is_file() for case in at_first):
        with Bar() as bar, alone(folder):
            task = bar.add_task("synthetic CTs", total=len(at_first))
            make_missing(at_first, os.cpu_count() or 1, lambda _: bar.advance(task))
    ranks.broadcast(None)  # the others wait until they are there
    return SyntheticSet(cases, held_out, record, first)
