"""The next sample, and what is said about it."""

from __future__ import annotations

import json
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from tests.server.tiny import checkpoint

from atlas8k.core.rankings import RANKINGS
from atlas8k.core.settings import Settings
from atlas8k.models.store import ModelStore
from atlas8k.server.access import Caller, holder, set_caller
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.tasks.strategy import LedgerStrategy, Name
from atlas8k.services.context import Context
from atlas8k.services.errors import RequestError
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring
from atlas8k.store import Holder


def ask(context: Context, name: Name = "attention", **request: Any) -> dict[str, Any] | None:
    return LedgerStrategy(context, name)(request, datastore_of(context))


def order(context: Context) -> list[str]:
    return [row.volume for row in context.ledger.ranking(context.model_version())]


def test_samples_come_by_attention_and_say_why(context: Context) -> None:
    Scoring(context).run()
    samples = [ask(context, client_id="anna") for _ in range(3)]
    assert [sample["id"] for sample in samples if sample] == order(context)
    for place, sample in enumerate(samples, start=1):
        assert sample is not None
        assert (sample["rank"], sample["ranked"], sample["total"]) == (place, 3, 3)
        sizes = [organ["attention_ml"] for organ in sample["organs"]]
        assert sizes == sorted(sizes, reverse=True)
        assert sample["attention_ml"] == pytest.approx(sum(sizes))
        assert sample["model_version"] == context.model_version()
        assert "strategy" not in sample  # the route puts the datastore's own there
    assert not {"volume", "signature"} & set(samples[0] or {})


def test_the_reply_says_where_to_look(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    Scoring(context).run()
    monkeypatch.setattr(context, "engine", None)  # nothing is computed for it
    sample = ask(context, client_id="anna")
    assert sample is not None
    explanation = sample["explanation"]
    assert explanation["attention_ml"] == pytest.approx(sample["attention_ml"], abs=1e-3)
    assert [o["organ"] for o in explanation["organs"]] == [o["organ"] for o in sample["organs"]]
    assert explanation["plane"] == "axial"
    assert explanation["slices"] == 16
    assert len(explanation["regions"]) <= 20
    json.dumps(sample, allow_nan=False)


def test_the_ranking_that_is_set_orders_the_samples(
    studies: Path, models: Path, context: Context
) -> None:
    Scoring(context).run()
    other = open_context(Settings(device="cpu", ranking="per_slice"), str(studies), models)
    expected = [row.volume for row in other.ledger.ranking(other.model_version(), by="per_slice")]
    got = [ask(other, client_id="anna") for _ in range(3)]
    assert [sample["id"] for sample in got if sample] == expected
    assert {sample["ranking"] for sample in got if sample} == {"per_slice"}
    other.studies.close()
    # Who says nothing about it leaves it as it is.
    third = open_context(Settings(device="cpu"), str(studies), models)
    assert third.ledger.ranked_by() == "per_slice"
    third.studies.close()


def test_a_scoring_keeps_what_every_ranking_and_selection_goes_by(context: Context) -> None:
    Scoring(context).run()
    model_version = context.model_version()
    # Nothing was learnt of these networks' errors.
    measured = [name for name in RANKINGS if name != "expected_error"]
    assert context.ledger.measured_rankings(model_version) == measured
    for ranking in measured:
        assert len(context.ledger.ranking(model_version, by=ranking)) == 3
    assert set(context.ledger.findings("a")) == {"pseudo"}
    noted = context.ledger.explanation("a", model_version)
    assert noted is not None
    assert noted["findings"] == [one._asdict() for one in context.ledger.findings("a")["pseudo"]]
    for strategy in ("random_foreground", "stratified"):
        sample = ask(context, strategy, client_id="anna")  # type: ignore[arg-type]
        assert sample is not None
        assert sample["selection"] == strategy
        assert "nothing is drawn by" not in sample["message"]


def test_the_selection_that_is_set_draws_the_list(
    studies: Path, models: Path, context: Context
) -> None:
    Scoring(context).run()
    settings = Settings(device="cpu", selection="random", audit_percent=0.0)
    other = open_context(settings, str(studies), models)
    sample = ask(other, client_id="anna")
    plan = other.ledger.plan(1)
    assert sample is not None
    assert plan is not None
    assert plan.selection == sample["selection"] == "random"
    assert sample["id"] == plan.lines[0].volume
    other.studies.close()


def test_a_strategy_without_a_list_says_that_it_goes_by_the_ranking(context: Context) -> None:
    sample = ask(context, "stratified", client_id="anna")
    assert sample is not None
    assert sample["message"].endswith("nothing is drawn by stratified")


def test_nobody_gets_what_somebody_holds(context: Context) -> None:
    Scoring(context).run()
    got = [ask(context, client_id=name) for name in ("anna", "ben", "cleo", "dora")]
    assert sorted(sample["id"] for sample in got if sample) == ["a", "b", "c"]
    assert got[3] is None


def test_unscored_volumes_are_served_and_said_to_be_so(context: Context) -> None:
    sample = ask(context, client_id="anna")
    assert sample is not None
    assert sample["unscored"]
    assert "no score yet" in sample["message"]
    assert sample["attention_ml"] is None


def test_while_new_networks_are_scored_the_old_order_holds(context: Context, models: Path) -> None:
    Scoring(context).run()
    old, expected = context.model_version(), order(context)
    new = ModelStore(models).publish({"unet": checkpoint("unet", 2)})
    sample = ask(context, client_id="anna")
    assert sample is not None
    assert (sample["id"], sample["model_version"]) == (expected[0], old)
    assert (sample["scored"], sample["total"]) == (0, 3)
    assert f"scored 0 of 3 under the new networks {new}" in sample["message"]


def test_without_networks_samples_go_on(context: Context, models: Path) -> None:
    for path in (models / "embedded").iterdir():
        path.unlink()
    sample = ask(context, client_id="anna")
    assert sample is not None
    assert sample["model_version"] is None


def test_an_organ_can_be_ranked_by_alone(context: Context) -> None:
    Scoring(context).run()
    by_liver = context.ledger.ranking(context.model_version(), organs=["liver"])
    sample = ask(context, client_id="anna", organ="Liver")
    assert sample is not None
    assert sample["id"] == by_liver[0].volume
    with pytest.raises(RequestError, match="heart"):
        ask(context, organ="heart")
    with pytest.raises(RequestError, match="source"):
        ask(context, source=3)


@pytest.mark.parametrize(
    ("user", "client", "key", "anonymous"),
    [
        ("anna", "x", "user:anna", False),
        ("", "label_service-4", "client:label_service-4", False),
        ("", "user-xyz", "anonymous:192.0.2.1 Slicer", True),
        ("", None, "anonymous:192.0.2.1 Slicer", True),
    ],
)
def test_who_asks(user: str, client: str | None, key: str, anonymous: bool) -> None:
    def asked() -> Holder:
        set_caller(Caller(user=user, address="192.0.2.1", software="Slicer"))
        return holder(client)

    found = copy_context().run(asked)  # or every later test would have this caller
    assert (found.key, found.anonymous) == (key, anonymous)


def test_a_volume_drawn_for_audit_is_marked(context: Context) -> None:
    Scoring(context).run()
    context.ledger.set_campaign(audit_percent=50)  # one of the two behind the budget's
    first = ask(context, client_id="anna")
    assert first is not None
    assert (first["id"], first["audit"]) == (order(context)[0], False)
    assert "at random" not in first["message"]
    context.ledger.submit(first["id"], holder("anna"))
    second = ask(context, client_id="anna")
    assert second is not None
    assert (second["audit"], second["purpose"]) == (True, "revise")
    assert "drawn at random among low-ranked volumes" in second["message"]
