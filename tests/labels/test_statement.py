from __future__ import annotations

import pytest

from atlas8k.core.errors import LabelNameError
from atlas8k.labels.submission_diff import NO_STATEMENT, Statement


def test_a_request_that_says_nothing_and_what_its_lease_says() -> None:
    assert Statement.of({"client_id": "ann"}) == NO_STATEMENT
    assert Statement.of({}, default="all").all_looked_at
    # What comes with the label counts, be it that nothing was looked at.
    assert Statement.of({"looked_at": []}, default="all") == NO_STATEMENT
    assert Statement.of({"looked_at": ["Leber", "spleen"][1:]}).looked_at == {"spleen"}


def test_every_part_of_a_statement() -> None:
    said = Statement.of(
        {
            "absent": ["Gallbladder"],
            "looked_at": "all",
            "volume_is_right": ["spleen"],
            "partial": False,
        }
    )
    assert said == Statement(
        absent=frozenset({"gall_bladder"}),
        all_looked_at=True,
        volume_is_right=frozenset({"spleen"}),
        partial=False,
    )
    assert said.as_dict() == {
        "looked_at": "all",
        "volume_is_right": ["spleen"],
        "partial": False,
    }
    assert said.looked("liver", drawn=True)
    assert not said.looked("liver", drawn=False)


@pytest.mark.parametrize(
    "params",
    [
        {"absent": "spleen"},
        {"absent": ["heart"]},
        {"looked_at": True},
        {"looked_at": "liver"},
        {"looked_at": ["all"]},
        {"volume_is_right": "all"},
        {"volume_is_right": [3]},
        {"partial": "true"},
        {"partial": 1},
    ],
)
def test_what_means_nothing_is_refused_by_its_key(params: dict[str, object]) -> None:
    (key,) = params
    with pytest.raises(LabelNameError, match=key if params[key] != ["heart"] else "organs are"):
        Statement.of(params)
