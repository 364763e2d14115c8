"""Published results, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.results import Results

DATA = Path(__file__).parents[3] / "shared" / "data"


def _folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the published data is not there: {folder}")
    return folder


@pytest.fixture(scope="session")
def touchstone() -> Path:
    return _folder("touchstone-results")


@pytest.fixture(scope="session")
def aeval() -> Path:
    return _folder("aeval")


@pytest.fixture
def make_results():
    """Results of a network over cases, drawn around a level."""

    def make(network, level=0.8, cases=40, seed=0, absent=0.2, organs=ORGAN_NAMES, prefix="c"):
        rng = np.random.default_rng(seed)
        names = tuple(f"{prefix}{n:04d}" for n in range(cases))
        values = np.clip(rng.normal(level, 0.1, (cases, len(organs))), 0, 1)
        missing = np.random.default_rng(99).random((cases, len(organs))) < absent
        values[missing] = np.nan
        return Results(network, "dsc", names, tuple(organs), values)

    return make
