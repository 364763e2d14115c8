from __future__ import annotations

import pytest
from tests.campaign.kit import CONFIRMED, REVISED, UNNAMED, planned

from atlas8k.campaign.reports import StopRule
from atlas8k.campaign.reviewed import Reviewed
from atlas8k.campaign.stopping import stop_rule


def rule(
    confirmed: str, changed: str = "", *, k: int = 3, top: int = 4, gone: str = "", before: int = 0
) -> StopRule:
    volumes = {v: Reviewed(v, {"liver": CONFIRMED}) for v in confirmed}
    volumes |= {v: Reviewed(v, {"liver": REVISED}) for v in changed}
    return stop_rule(planned("abcdef", top, gone=gone, before=before, stop=k), volumes)


def test_the_first_k_confirmed_end_it() -> None:
    found = rule("abc")
    assert (found.reached, found.in_a_row, found.needed) == (True, 3, 3)
    assert found.text == "the first 3 of the list needed no change: the campaign can end"


@pytest.mark.parametrize(
    ("confirmed", "changed", "row", "broken", "waits"),
    [
        ("", "", 0, None, "a"),
        ("bc", "", 0, None, "a"),  # from the first place on
        ("ab", "", 2, None, "c"),
        ("ac", "b", 1, ("b", 2), None),
        ("a", "c", 1, ("c", 3), "b"),
        ("ab", "d", 2, None, "c"),  # behind the first three
    ],
)
def test_what_keeps_it_waiting_and_what_breaks_it(
    confirmed: str, changed: str, row: int, broken: tuple[str, int] | None, waits: str | None
) -> None:
    found = rule(confirmed, changed)
    assert not found.reached
    assert (found.in_a_row, found.waits_for) == (row, waits)
    assert (found.broken_by, found.broken_at) == (broken or (None, None))
    assert ("still needs revision" in found.text) == (broken is not None)


def test_a_change_behind_the_first_k_does_not_break_it() -> None:
    assert rule("abc", "d").reached


def test_no_more_than_the_budget_is_asked_for() -> None:
    found = rule("ab", k=10, top=2)
    assert (found.reached, found.needed) == (True, 2)


def test_a_budget_used_before_the_list_was_drawn_makes_it_no_shorter() -> None:
    found = rule("a", k=10, top=0, before=4)
    assert (found.reached, found.needed, found.in_a_row) == (False, 4, 1)
    assert rule("abcd", k=10, top=1, before=3).reached


def test_volumes_that_are_gone_are_stepped_over() -> None:
    assert rule("acd", gone="b").reached


def test_a_volume_of_which_nothing_was_said_is_not_confirmed() -> None:
    volumes = {"a": Reviewed("a", {"liver": UNNAMED})}
    found = stop_rule(planned("ab", 2, stop=1), volumes)
    assert (found.reached, found.waits_for) == (False, "a")


def test_a_volume_of_which_a_part_was_said_is_not_confirmed() -> None:
    volumes = {"a": Reviewed("a", {"liver": CONFIRMED, "spleen": UNNAMED})}
    found = stop_rule(planned("ab", 2, stop=1), volumes)
    assert (found.reached, found.waits_for) == (False, "a")
