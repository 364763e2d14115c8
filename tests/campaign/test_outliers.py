"""The outliers of a distribution: by a stated rule, whatever the unit, and honest where few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.store.kit import ANNA, CONFIRMED, scored

from atlas8k.campaign.outliers import FEWEST, fence, outliers
from atlas8k.campaign.status import status
from atlas8k.store import Ledger


def lognormal(n: int = 8000, sigma: float = 1.0) -> list[float]:
    return list(np.random.default_rng(4).lognormal(3.0, sigma, n))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_of_log_normal_sizes_as_few_lie_above_whatever_their_spread(sigma: float) -> None:
    sizes = lognormal(sigma=sigma)
    limit = fence(sizes)
    # Quartiles at 0.6745 SD: the fence at 2.698, above which a normal has 0.349 %.
    assert limit == pytest.approx(math.exp(3 + 2.698 * sigma), rel=0.1 * sigma)
    assert sum(size > limit for size in sizes) / 8000 == pytest.approx(0.00349, abs=0.002)


def test_a_few_that_stand_out_are_found_and_do_not_move_the_fence() -> None:
    sizes = lognormal(400, 0.3)
    limit, moved = fence(sizes), fence([*sizes, *[400.0] * 20])
    assert limit is not None
    assert moved is not None
    assert moved < 1.2 * limit < 400
    found = outliers("eq4", [(size, True) for size in [*sizes, *[400.0] * 20]], 21)
    assert found is not None
    assert 20 <= found.outliers <= 24
    scaled = fence([1000 * size for size in sizes])
    assert scaled == pytest.approx(1000 * limit)


def test_volumes_without_any_attention_are_no_part_of_it() -> None:
    sizes = lognormal(100)
    assert fence([0.0] * 500 + sizes) == fence(sizes)


@pytest.mark.parametrize("sizes", [[], [5.0] * 50, lognormal(FEWEST - 1), [0.0] * 50])
def test_where_nothing_can_be_told_it_says_so(sizes: list[float]) -> None:
    assert fence(sizes) is None
    found = outliers("salient", [(size, True) for size in sizes], 3)
    if not sizes:
        assert found is None
        return
    assert found is not None
    assert (found.outliers, found.to_review) == (0, 0)
    assert ("above 0" in found.text) == (sum(size > 0 for size in sizes) < FEWEST)
    assert found.text.startswith("outliers cannot be named")


def test_the_status_offers_those_that_nobody_has_submitted(ledger: Ledger) -> None:
    scored(ledger, {f"v{i:02d}": 1000.0 + i if i < 4 else 10.0 + i for i in range(60)})
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    ledger.submit(sample.volume, ANNA, organs=CONFIRMED)
    found = status(ledger).outliers
    assert found is not None
    assert (found.scored, found.outliers, found.to_review, found.budget) == (60, 4, 3, 12)
    assert found.ranking == "eq4"
    assert "`campaign next --budget 0.05` reviews these" in found.text
    ledger.close_round()
    ledger.set_campaign(budget=0.05)
    ledger.begin_round("one")
    plan = ledger.plan(2)
    assert plan is not None
    assert [line.ml for line in plan.lines[: plan.top]] == [1002.0, 1001.0, 1000.0]
