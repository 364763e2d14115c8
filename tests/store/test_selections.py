"""Lists that are drawn otherwise than by the ranking alone, and samples from them."""

from __future__ import annotations

import pytest
from tests.store.kit import ANNA, BEN, CONFIRMED, check_consistent, query, sizes

from atlas8k.core.errors import LedgerError
from atlas8k.store import Ledger, NotMeasuredError, Sample

N = 40


def traits(place: int) -> dict[str, object]:
    """No organ is predicted in every fourth; one in ten is arterial."""
    return {
        "organs": 0.0 if place % 4 == 3 else 9.0,
        "phase": "arterial" if place % 10 == 0 else "portal-venous",
        "coverage": "whole",
        "body_cm2": 400.0 + place,
    }


def record(ledger: Ledger, place: int, model_version: str = "one", *, old: bool = False) -> None:
    """The last fifth has its worst in the spleen, the others in the liver."""
    worst = {"spleen": 0.9 * (N - place)} if place >= 0.8 * N else {}
    ledger.record_score(
        f"v{place:02d}",
        model_version,
        sizes(float(N - place), **worst),
        traits=None if old else traits(place),
    )


@pytest.fixture
def pool(ledger: Ledger) -> Ledger:
    """Forty volumes, the first the largest; half of them are the budget's."""
    ledger.sync_volumes([f"v{place:02d}" for place in range(N)])
    ledger.register_model_version("one")
    for place in range(N):
        record(ledger, place)
    return ledger


def take(ledger: Ledger, **more: object) -> Sample:
    sample = ledger.next_sample(holder=ANNA, model_version="one", **more)  # type: ignore[arg-type]
    assert sample is not None
    return sample


def worked(ledger: Ledger, n: int, **more: object) -> list[str]:
    """So many volumes as they were given out and submitted."""
    names = []
    for _ in range(n):
        sample = take(ledger, **more)
        names.append(sample.volume)
        ledger.submit(sample.volume, ANNA, organs=CONFIRMED)
    return names


@pytest.mark.parametrize("selection", ["random", "random_foreground", "stratified"])
def test_samples_follow_the_list_as_it_was_drawn(pool: Ledger, selection: str) -> None:
    pool.set_campaign(audit_percent=0)
    assert pool.set_selection(selection)
    assert not pool.set_selection(selection)
    first = take(pool)
    assert (first.strategy, first.selection) == ("attention", selection)
    plan = pool.plan(1)
    assert plan is not None
    assert plan.selection == selection
    order = [line.volume for line in plan.lines]
    assert sorted(order) == [f"v{place:02d}" for place in range(N)]
    assert order != sorted(order)
    assert first.volume == order[0]
    pool.submit(first.volume, ANNA, organs=CONFIRMED)
    assert worked(pool, 5) == order[1:6]
    ben = pool.next_sample(holder=BEN, model_version="one")
    assert ben is not None
    assert take(pool).volume == order[7]
    check_consistent(pool.path)


def test_a_stratified_list_has_every_class_in_its_budget(pool: Ledger) -> None:
    pool.set_campaign(budget=0.25)  # of the open round: nothing was done in it
    pool.set_selection("stratified")
    pool.begin_round("one")
    plan = pool.plan(1)
    assert plan is not None
    places = [int(line.volume[1:]) for line in plan.lines[: plan.top]]
    assert plan.top == 10
    assert sum(place >= 0.8 * N for place in places) >= 3  # spleen, of seven by class
    assert places == sorted(places)
    assert all(line.ml == N - int(line.volume[1:]) for line in plan.lines)


def test_foreground_is_first_and_what_has_none_is_last(pool: Ledger) -> None:
    pool.set_selection("random_foreground")
    pool.begin_round("one")
    plan = pool.plan(1)
    assert plan is not None
    found = [bool(traits(int(line.volume[1:]))["organs"]) for line in plan.lines]
    assert found == [True] * 30 + [False] * 10


@pytest.mark.parametrize("strategy", ["random_foreground", "stratified"])
def test_an_order_is_drawn_for_who_asks_for_it_by_name_and_the_list_stays(
    pool: Ledger, strategy: str
) -> None:
    first = take(pool, strategy=strategy)
    assert (first.strategy, first.selection) == (strategy, strategy)
    plan = pool.plan(1)
    assert plan is not None
    assert [line.volume for line in plan.lines][:3] == ["v00", "v01", "v02"]
    order = [name for (name,) in query(
        pool.path,
        "SELECT v.name FROM selected s JOIN volume v ON v.id = s.volume ORDER BY s.place",
    )]  # fmt: skip
    assert first.volume == order[0]
    assert take(pool, strategy=strategy).volume == order[1]
    assert len(order) == N
    other = pool.next_sample(holder=BEN, model_version="one")
    assert other is not None
    assert other.selection == "ranking"
    check_consistent(pool.path)


def test_a_volume_that_appears_later_comes_behind_the_list(pool: Ledger) -> None:
    pool.set_campaign(audit_percent=0)
    pool.set_selection("stratified")
    pool.begin_round("one")
    pool.sync_volumes([f"v{place:02d}" for place in range(N + 1)])
    pool.record_score("v40", "one", sizes(1000.0), traits=traits(40))
    assert take(pool).volume != "v40"
    assert "v40" not in worked(pool, N - 1)
    assert "v40" in worked(pool, 2)


def test_another_selection_is_another_list(pool: Ledger) -> None:
    pool.begin_round("one")
    take(pool, strategy="stratified")
    pool.set_selection("random")
    assert pool.begin_round("one") == (1, True)
    plan = pool.plan(1)
    assert plan is not None
    assert plan.selection == "random"
    assert not query(pool.path, "SELECT 1 FROM selected")
    worked(pool, 1)
    pool.set_selection("ranking")
    assert pool.begin_round("one") == (2, True)
    plan = pool.plan(2)
    assert plan is not None
    assert plan.selection == "ranking"
    check_consistent(pool.path)


def test_until_there_is_a_list_samples_come_by_the_ranking(ledger: Ledger) -> None:
    ledger.sync_volumes([f"v{place:02d}" for place in range(N)])
    ledger.register_model_version("one")
    for place in range(5, 20):
        record(ledger, place)
    for strategy in ("random_foreground", "stratified"):
        sample = take(ledger, strategy=strategy)
        assert (sample.strategy, sample.selection) == ("attention", "ranking")
    assert take(ledger).volume == "v07"


def test_scores_of_an_earlier_release_are_made_again_and_never_drawn_by(ledger: Ledger) -> None:
    ledger.sync_volumes([f"v{place:02d}" for place in range(N)])
    ledger.register_model_version("one")
    for place in range(N):
        record(ledger, place, old=place in (3, 7))
    for strategy in ("random_foreground", "stratified"):
        with pytest.raises(NotMeasuredError, match=r"2 of 40 volumes .* score again"):
            take(ledger, strategy=strategy)
    assert take(ledger, strategy="random").volume
    assert ledger.set_selection("stratified")
    assert ledger.stale("one") == ["v03", "v07"]
    check_consistent(ledger.path)


def test_networks_served_again_are_scored_again_for_a_selection_chosen_since(
    ledger: Ledger,
) -> None:
    ledger.sync_volumes(["v00", "v01"])
    for model_version, old in (("one", True), ("two", False)):
        ledger.register_model_version(model_version)
        for place in range(2):
            record(ledger, place, model_version, old=old)
    with ledger.write() as tx:  # as a campaign that was drawn so before `one` was brought back
        tx.set("selection", "stratified")
    ledger.register_model_version("one")
    assert ledger.stale("one") == ["v00", "v01"]
    assert not ledger.stale("two")


def test_what_is_kept_of_a_ct_stays_tiny(pool: Ledger) -> None:
    (longest,) = query(pool.path, "SELECT max(length(traits)) FROM result")[0]
    assert isinstance(longest, int)
    assert longest < 100


def test_the_others_are_refused(pool: Ledger) -> None:
    with pytest.raises(LedgerError, match="ranking, random, random_foreground, stratified"):
        pool.set_selection("entropy")


def test_the_selection_is_kept_and_recorded(pool: Ledger) -> None:
    pool.set_selection("stratified")
    assert Ledger(pool.path).selection() == "stratified"
    (found,) = query(pool.path, "SELECT text FROM audit_trail WHERE text LIKE '%selection%'")
    assert '"selection":["ranking","stratified"]' in str(found[0]).replace(" ", "")
