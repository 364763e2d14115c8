"""Any order of events: nobody ever holds another's volume, and all that is derived fits."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.store.kit import ANNA, BEN, NOBODY, Clock, check_consistent, sizes

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Holder, Ledger, OrganChange, VolumeEntry

VOLUMES = [f"v{i}" for i in range(6)]
volumes = st.sampled_from(VOLUMES)
holders = st.sampled_from([ANNA, BEN, NOBODY])
model_versions = st.sampled_from(["one", "two", "three"])


class Office(RuleBasedStateMachine):
    """Beside the ledger, a plain model of who holds what and what was submitted."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a place: thousands of transactions, and syncing them
        # to a disk is not what is tested here.
        memory = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self.clock = Clock()
        self.ledger = Ledger(
            Path(self.folder.name) / "l.sqlite", lease_minutes=60, clock=self.clock
        )
        self.ledger.register_model_version("one")
        self.known = {"one"}
        self.present: set[str] = set()
        self.excluded: set[str] = set()
        self.submitted: set[str] = set()
        self.held: dict[str, tuple[Holder, float]] = {}
        self.submissions = 0

    @rule(now=st.sets(volumes), source=st.sampled_from([None, "BTCV", "LiTS"]))
    def folder_changes(self, now: set[str], source: str | None) -> None:
        self.ledger.sync_volumes(VolumeEntry(v, source) for v in now)
        self.present = now

    @rule(model_version=model_versions)
    def publish(self, model_version: str) -> None:
        assert self.ledger.register_model_version(model_version) == (
            model_version not in self.known
        )
        self.known.add(model_version)

    @precondition(lambda self: self.present)
    @rule(
        data=st.data(),
        ml=st.floats(0, 50).map(lambda x: round(x, 1)),
        organ=st.sampled_from(ORGAN_NAMES),
    )
    def score(self, data: st.DataObject, ml: float, organ: str) -> None:
        volume = data.draw(st.sampled_from(sorted(self.present)))
        model_version = data.draw(st.sampled_from(sorted(self.known)))
        self.ledger.record_score(volume, model_version, sizes(ml, **{organ: ml / 2}))

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        volume = data.draw(st.sampled_from(sorted(self.present)))
        self.ledger.record_failure(volume, data.draw(st.sampled_from(sorted(self.known))), "why")

    @rule(
        holder=holders,
        model_version=model_versions,
        strategy=st.sampled_from(["attention", "first", "random"]),
        source=st.sampled_from([None, None, "BTCV"]),
        organ=st.sampled_from([None, None, "liver"]),
    )
    def ask(
        self,
        holder: Holder,
        model_version: str,
        strategy: str,
        source: str | None,
        organ: str | None,
    ) -> None:
        sample = self.ledger.next_sample(
            holder=holder,
            model_version=model_version if model_version in self.known else None,
            strategy=strategy,  # type: ignore[arg-type]
            source=source,
            organ=organ,
        )
        if not holder.anonymous:
            self.held = {v: by for v, by in self.held.items() if by[0] != holder}
        if sample is None:
            return
        assert sample.volume in self.present - self.excluded - self.submitted
        assert sample.volume not in self.holders_now(), "held by somebody else"
        self.held[sample.volume] = (holder, self.clock.now + 3600)

    def holders_now(self) -> dict[str, str]:
        now = self.clock.now
        return {v: holder.key for v, (holder, until) in self.held.items() if until > now}

    @rule(volume=volumes, holder=holders, state=st.sampled_from(["revised", "confirmed"]))
    def submit(self, volume: str, holder: Holder, state: str) -> None:
        new = volume not in self.ledger.statuses()
        self.ledger.submit(volume, holder, organs={"liver": OrganChange(state)})
        self.present |= {volume} if new else set()
        self.submissions += 1
        self.submitted.add(volume)
        if volume in self.held and self.held[volume][0] == holder:
            del self.held[volume]

    @rule(volume=volumes, holder=holders)
    def give_back(self, volume: str, holder: Holder) -> None:
        if volume in self.ledger.statuses():
            self.ledger.release(volume, holder)
            if volume in self.held and self.held[volume][0] == holder:
                del self.held[volume]

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), resolve=st.booleans())
    def decide(self, data: st.DataObject, resolve: bool) -> None:
        volume = data.draw(st.sampled_from(sorted(self.submitted)))
        if resolve:
            chosen = data.draw(st.sampled_from(self.ledger.submissions(volume)))
            self.ledger.resolve(volume, chosen.id)
        else:
            self.ledger.reopen(volume)
            self.submitted.discard(volume)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), back=st.booleans())
    def exclude(self, data: st.DataObject, back: bool) -> None:
        volume = data.draw(st.sampled_from(sorted(self.present)))
        if back:
            self.ledger.include(volume)
            self.excluded.discard(volume)
        else:
            self.ledger.exclude(volume, "motion")
            self.excluded.add(volume)

    @rule(minutes=st.sampled_from([1, 30, 61]))
    def time_passes(self, minutes: int) -> None:
        self.clock.minutes(minutes)

    @invariant()
    def fits(self) -> None:
        assert {lease.volume: lease.holder for lease in self.ledger.leases()} == self.holders_now()
        kept = self.ledger.statuses()
        assert sum(len(self.ledger.submissions(v)) for v in kept) == self.submissions
        assert {v for v in kept if self.ledger.submitted(v)} == self.submitted
        check_consistent(self.ledger.path)

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()


TestOffice = Office.TestCase
TestOffice.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
