"""Whether a volume or a worker is to blame for what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from atlas8k.services.cluster.troubles import MOST, Troubles


@dataclass(eq=False)
class Place:
    key: str


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


def test_a_volume_is_tried_on_another_node_before_it_has_failed(troubles: Troubles) -> None:
    places = first, _, far = [Place("a"), Place("a"), Place("b")]
    assert not troubles.met(first, "ct", "memory is short", proven=False)
    assert [troubles.may_take(one, "ct", places) for one in places] == [False, False, True]
    assert [troubles.may_take(one, "ct", places[:2]) for one in places[:2]] == [False, True]
    assert troubles.may_take(first, "ct", [first])
    why = troubles.met(far, "ct", "it died", proven=False)
    assert why == "tried twice: memory is short; it died"
    # Nothing was wrong with the workers.
    assert all(troubles.may_take(one, "other", places) for one in places)


def test_a_worker_whose_volumes_others_can_do_has_no_more_work(troubles: Troubles) -> None:
    places = bad, good = [Place("a"), Place("b")]
    for number in range(MOST):
        assert troubles.may_take(bad, f"ct_{number}", places)
        troubles.met(bad, f"ct_{number}", "memory is short", proven=False)
    # It waits until others have tried them.
    assert not troubles.may_take(bad, "more", places)
    assert troubles.may_take(good, "more", places)
    for number in range(MOST):
        assert not troubles.useless(bad)
        troubles.done(good, f"ct_{number}", scored=True)
    assert troubles.useless(bad)


def test_large_volumes_that_nobody_can_do_are_held_against_no_worker(troubles: Troubles) -> None:
    places = one, other = [Place("a"), Place("b")]
    for number in range(2 * MOST):
        assert troubles.may_take(one, f"ct_{number}", places)
        assert not troubles.met(one, f"ct_{number}", "memory is short", proven=False)
        assert troubles.met(other, f"ct_{number}", "memory is short", proven=False)
    assert not troubles.useless(one)


def test_a_result_ends_a_row(troubles: Troubles) -> None:
    place = Place("a")
    for number in range(2 * MOST):
        troubles.met(place, f"ct_{number}", "no space left", proven=True)
        troubles.done(place, f"other_{number}", scored=True)
    assert not troubles.useless(place)


def test_a_node_without_space_blames_no_volume(troubles: Troubles) -> None:
    place = Place("a")
    whys = [troubles.met(place, f"ct_{n}", "no space left", proven=True) for n in range(MOST)]
    assert not any(whys)
    assert troubles.useless(place)
    assert not troubles.had(f"ct_{MOST - 1}")
