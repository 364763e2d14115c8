"""A campaign on a real ledger, looked at as it goes."""

from __future__ import annotations

import json
import re

import pytest
from tests.campaign.kit import CONFIRMED, REVISED, full, review
from tests.store.kit import ANNA, BEN, Clock

from atlas8k.campaign import learning
from atlas8k.campaign.reports import Status
from atlas8k.campaign.status import status
from atlas8k.store import Ledger

STATS = {
    "model": "atlas8k",
    "start_ts": 1_700_000_000,
    "total_time": 120.0,
    "trained_from": "one",
    "model_version": "two",
    "cases": 3,
    "message": "published, served as two",
    "gate": {
        "on": True,
        "cases": 2,
        "publish": ["unet"],
        "refused": {"nnunet": "liver fell from 0.900 to 0.800 DSC"},
        "basis": "held out",
        "compared": {
            "unet": {"organs": {"liver": {"cases": 2, "served": 0.1, "new": 0.2}}},
            "ensemble": {
                "organs": {
                    "liver": {"cases": 2, "served": 0.8, "new": 0.9},
                    "aorta": {"cases": 1, "served": 0.6, "new": 0.5},
                }
            },
        },
    },
}


def states(found: Status) -> str:
    """First letter of the state of every step."""
    return "".join("?" if one.state == "to decide" else one.state[0] for one in found.steps)


def test_an_empty_ledger_says_what_to_do_first(ledger: Ledger) -> None:
    found = status(ledger)
    assert (found.round, found.rounds, found.stop, found.audit) == (None, [], None, None)
    assert states(found) == "dwwwwwww"
    assert found.steps[0].command


def test_two_rounds_from_the_first_sample_to_the_stop_rule(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 20)  # a fifth are four
    ledger.set_campaign(audit_percent=12.5, stop_after=3)  # two of sixteen
    begun = status(ledger, model_version="one")
    assert [one.state for one in begun.steps[1:5]] == ["done", "done", "due", "waits"]
    given = [review(ledger, clock, ANNA, REVISED)]
    given += [review(ledger, clock, BEN) for _ in range(2)]
    found = status(ledger, model_version="one")
    (one,) = found.rounds
    assert states(found) == "ddddddww"
    assert found.steps[4].detail == "2 of 4 volumes, and 1 of 2 audits"
    assert (one.reviewed, one.audited, one.changed, one.confirmed) == (3, 1, 1, 2)
    assert [(a.name, a.volumes) for a in one.annotators] == [("annotator 1", 1), ("annotator 2", 2)]
    assert one.effort.hours == pytest.approx(27 / 60)
    assert found.stop is not None
    assert (found.stop.broken_by, found.stop.in_a_row) == ("v00", 0)
    assert found.audit is not None
    assert (found.audit.volumes.audited, found.audit.open) == (1, 1)
    assert ANNA.key not in found.model_dump_json()
    assert ANNA.key in status(ledger, names=True).model_dump_json()

    for _ in range(3):
        review(ledger, clock, ANNA)
    found = status(ledger, model_version="one", running=["training"])
    assert states(found) == "ddddddrw"
    assert learning.record_training(ledger, STATS)
    ledger.register_model_version("two")
    assert not learning.record_training(ledger, STATS)
    found = status(ledger, model_version="two")
    one, two = found.rounds
    assert one.closing == "new networks, two"
    (trained,) = one.trainings
    assert (trained.verdict, trained.networks) == ("partly published", ["unet", "nnunet"])
    assert (trained.dsc_before, trained.dsc_after) == (pytest.approx(0.7), pytest.approx(0.7))
    assert {o.organ: (o.before, o.after) for o in trained.organs} == {
        "liver": (0.8, 0.9),
        "aorta": (0.6, 0.5),
    }
    assert two.trainings == []
    assert [one.state for one in found.steps[1:5]] == ["due", "due", "waits", "waits"]
    assert found.stop is not None
    assert found.stop.round == 1  # the second has no list yet


def test_the_rule_is_a_state_and_samples_go_on(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 20)
    ledger.set_campaign(stop_after=3)
    for _ in range(3):
        review(ledger, clock, ANNA)
    found = status(ledger, model_version="one")
    assert found.stop is not None
    assert found.stop.reached
    assert found.steps[7].state == "to decide"
    assert "the campaign can end" in found.steps[7].detail
    assert review(ledger, clock, ANNA, CONFIRMED) == "v03"


def test_what_a_training_that_runs_or_failed_is_taken_for(ledger: Ledger) -> None:
    full(ledger, 3)
    assert not learning.record_training(ledger, {})
    assert not learning.record_training(ledger, {"start_ts": 1, "epoch": 3})
    failed = {"start_ts": 1_700_000_100, "total_time": 1.0, "message": "failed: no label"}
    assert not learning.record_training(ledger, failed)  # nobody can say whose it is
    assert not learning.record_training(ledger, {**failed, "trained_from": "another campaign's"})
    failed["trained_from"] = "one"
    assert learning.record_training(ledger, failed)
    (noted,) = ledger.trainings()
    assert noted.round == 1
    trained = learning.training(noted)
    assert (trained.verdict, trained.dsc_before, trained.message) == (
        "failed", None, "failed: no label",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        ({"on": True, "publish": [], "refused": {"unet": "worse"}}, "refused"),
        ({"on": True, "publish": ["unet"], "refused": {}}, "published"),
        ({"on": False, "publish": ["unet"]}, "not compared"),
    ],
)
def test_verdicts(ledger: Ledger, gate: dict[str, object], verdict: str) -> None:
    full(ledger, 1)
    learning.record_training(ledger, {**STATS, "gate": gate})
    assert learning.training(ledger.trainings()[0]).verdict == verdict


def test_the_json_fits_its_schema(ledger: Ledger, clock: Clock) -> None:
    import jsonschema

    full(ledger, 20)
    ledger.set_campaign(audit_percent=12.5)
    for _ in range(3):
        review(ledger, clock, ANNA, REVISED)
    learning.record_training(ledger, STATS)
    found = status(ledger)
    schema = Status.model_json_schema(mode="serialization")
    jsonschema.validate(json.loads(found.model_dump_json()), schema)
    assert all("description" in one for one in schema["$defs"].values())
    assert Status.model_validate_json(found.model_dump_json()) == found


def test_the_end_of_a_small_collection_is_an_end(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 10)
    ledger.set_campaign(budget=0.4)
    for _ in range(8):
        review(ledger, clock, ANNA)
        if len(ledger.worked()) == 4:
            ledger.close_round()
            ledger.set_campaign(budget=0.4)
    ledger.close_round()
    ledger.set_campaign(budget=0.4)
    review(ledger, clock, ANNA)
    found = status(ledger)
    assert found.steps[4].detail == "1 of 2 volumes"
    assert found.steps[6].detail == "for step 5: 1 volume left"
    review(ledger, clock, ANNA)
    found = status(ledger)
    assert states(found) == "ddddddd?"
    assert found.steps[4].detail == "2 of 2 volumes: every volume was submitted"
    assert found.steps[6].state == "due"
    ledger.close_round()
    ledger.begin_round("one")
    found = status(ledger)
    states_now = [found.steps[at].state for at in (3, 4, 6, 7)]
    assert states_now == ["done", "done", "done", "to decide"]
    assert found.steps[7].detail == "every volume was submitted: the campaign can end"


def test_a_rule_that_was_reached_is_said_when_the_round_is_over(
    ledger: Ledger, clock: Clock
) -> None:
    full(ledger, 20)
    ledger.set_campaign(stop_after=2)
    for _ in range(4):
        review(ledger, clock, ANNA)
    ledger.close_round()
    found = status(ledger)
    assert found.round is None
    assert found.steps[7].state == "to decide"
    assert found.steps[7].detail.startswith("round 1: the first 4 of the list needed no change")
    ledger.set_campaign(stop_after=1)
    ledger.begin_round("one")
    assert status(ledger).steps[7].state == "waits"  # the new list's own


def test_a_round_that_has_ended_keeps_its_rule(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 20)
    ledger.set_campaign(stop_after=4)
    review(ledger, clock, ANNA)
    review(ledger, clock, ANNA)
    ledger.close_round()
    ledger.set_campaign(stop_after=2)
    stop = status(ledger).stop
    assert stop is not None
    assert (stop.needed, stop.reached) == (4, False)


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_has_the_budget_and_the_rule_of_every_round(
    ledger: Ledger,
    clock: Clock,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from atlas8k.cli.campaign_tables import print_status

    monkeypatch.setenv("COLUMNS", str(width))
    full(ledger, 20)
    ledger.set_campaign(stop_after=2)
    ledger.submit("v05", BEN, organs={"liver": CONFIRMED})
    for change in (CONFIRMED, CONFIRMED, REVISED):
        review(ledger, clock, ANNA, change)
    ledger.close_round()
    review(ledger, clock, ANNA, REVISED)
    found = status(ledger)
    print_status(found)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    rounds = printed.partition("\nRounds\n")[2].partition("\nRound ")[0]
    one, two = re.split(r"^(?= +2  |round 2$)", rounds, flags=re.MULTILINE)
    one, two = (" ".join(text.split()) for text in (one, two))
    assert "4 of 5" in one  # one before there was a list, then three of its four places
    assert "reached" in one
    assert "1 of 4" in two
    assert "place 1 changed" in two


def test_a_round_without_a_list_has_a_budget_as_long_as_it_is_open(ledger: Ledger) -> None:
    full(ledger, 20)
    assert [one.budget for one in status(ledger).rounds] == [4]
    ledger.close_round()
    assert [one.budget for one in status(ledger).rounds] == [0]
