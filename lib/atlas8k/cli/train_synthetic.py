"""Synthetic CTs that ``atlas8k train`` learns from: phantoms, and CTs painted on real bodies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas8k.training.generated import GeneratedCase

FIRST_SEED = 20_000
"""First seed of training. Those below are samples and tests, 10,000 to 10,999 are kept for
benchmarks."""
MEASURED_ON = 6
"""CTs of a kind that show the progress; their seeds are before :data:`FIRST_SEED`."""
AT_FIRST = 300
"""Painted CTs that are there before a training begins; the others are painted beside it."""
PHANTOMS = "wide"
"""Setting of the phantoms: bodies that spread as people do."""
ATTRIBUTION = "TotalSegmentator dataset, Wasserthal et al. 2023, CC BY 4.0"
"""Of the maps that CTs are painted on: the licence asks that it goes with the weights."""


@dataclass(frozen=True)
class SyntheticSet:
    """Cases to train and to measure on.

    Attributes
    ----------
    record
        What a checkpoint says of them.
    first
        Cases in the order in which a training meets them.
    """

    cases: Sequence[GeneratedCase]
    apart: Sequence[GeneratedCase]
    record: Mapping[str, Any]
    first: Sequence[GeneratedCase]

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Have what is missing made in a second process."""
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
    """Make what a training needs first, in as many processes as there are processors.

    Parameters
    ----------
    folder
        Where the CTs are kept, about 1 MB each.
    phantoms, painted
        How many of each; `painted` only where there is a folder of `bodies`.
    subjects
        Of the bodies; all where empty.
    seed
        Of the training: it decides which CTs come first.

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
    apart: list[GeneratedCase] = []
    record: dict[str, Any] = {"first_seed": FIRST_SEED}
    if phantoms:
        seeds = range(start, FIRST_SEED + phantoms)
        made = [PhantomTrainingCase(one, folder, PHANTOMS) for one in seeds]
        apart += made[:MEASURED_ON]
        cases += made[MEASURED_ON:]
        record |= {"phantoms": phantoms, "setting": PHANTOMS}
    if bodies is not None:
        on_bodies = body_cases(painted + MEASURED_ON, start, folder, bodies.resolve(), subjects)
        apart += on_bodies[:MEASURED_ON]
        cases += on_bodies[MEASURED_ON:]
        record |= {
            "painted": painted,
            "bodies": list(on_bodies[0].subjects),
            "attribution": ATTRIBUTION,
        }
    first = training_order(cases, seed)
    at_first = [*apart, *(first if bodies is None else first[:AT_FIRST])]
    # Where all are there, a training beside this one may be making the others.
    if ranks.first() and not all(case.path.is_file() for case in at_first):
        with Bar() as bar, alone(folder):
            task = bar.add_task("synthetic CTs", total=len(at_first))
            make_missing(at_first, os.cpu_count() or 1, lambda _: bar.advance(task))
    ranks.broadcast(None)  # the others wait until they are there
    return SyntheticSet(cases, apart, record, first)
