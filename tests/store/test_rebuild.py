from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tests.store.kit import ANNA, check_consistent, scored

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.rebuild import LabelOnDisk, rebuild
from atlas8k.store import Ledger, LedgerReadOnlyError, OrganChange, OrganSource, VolumeEntry
from atlas8k.store.records import OLDER_RULE
from atlas8k.store.usability import decisions_file

GRID = Grid((10, 10, 10), np.diag([-1.0, 2.0, 3.0, 1.0]))
LIVER, SPLEEN, STOMACH = ORGAN_IDS["liver"], ORGAN_IDS["spleen"], ORGAN_IDS["stomach"]


def label(path: Path, **voxels: int) -> Path:
    """A label map whose first voxels are so many of each organ, in the order given."""
    array: npt.NDArray[np.uint8] = np.zeros(1000, dtype=np.uint8)
    at = 0
    for organ, n in voxels.items():
        array[at : at + n] = ORGAN_IDS[organ]
        at += n
    return write_nifti(path, array.reshape(GRID.shape), GRID)


def test_what_label_files_carry_comes_back(tmp_path: Path) -> None:
    start = label(tmp_path / "start.nii.gz", liver=100, spleen=50, stomach=25)
    first = label(tmp_path / "first.nii.gz", liver=100, spleen=75)  # stomach's voxels to spleen
    second = label(tmp_path / "second.nii.gz", liver=50, spleen=50)
    seen = {"model_version": "m0"}
    target = tmp_path / "new" / "ledger.sqlite"
    report = rebuild(
        target,
        ["a", "b"],
        [
            LabelOnDisk("a", "final", second, 300.0, {"client_id": "ben"}),
            LabelOnDisk("a", "final", first, 200.0, {"client_id": "anna", "absent": ["stomach"]}),
            LabelOnDisk("a", "original", start, 100.0, seen),
            LabelOnDisk("gone", "original", start, 100.0, seen),
        ],
    )
    assert (report.volumes, report.submissions, report.labels) == (2, 2, 4)
    ledger = Ledger(target)
    assert ledger.statuses() == {"a": "submitted", "b": "open", "gone": "open"}
    one, two = ledger.submissions("a")
    assert (one.holder, one.submitted_at, one.conflict) == ("client:anna", 200.0, False)
    assert (two.holder, two.submitted_at, two.conflict) == ("client:ben", 300.0, False)
    assert one.sha256 == hashlib.sha256(first.read_bytes()).hexdigest()
    changes = ledger.changes(one.id)
    assert changes["liver"] == OrganChange("confirmed", 100, 100, 0, 1.0, OLDER_RULE)
    assert changes["spleen"] == OrganChange("revised", 50, 75, 25, 100 / 125)
    assert changes["stomach"] == OrganChange("absent", 25, 0, 25, 0.0)
    assert changes["aorta"] == OrganChange("not_assessed", 0, 0, 0, None)
    assert ledger.sources("a")["liver"] == OrganSource("revised", "revised", submission=two.id)
    assert ledger.sources("a")["stomach"].state == "absent"  # the second said nothing of it
    assert [(f.tag, f.model_version) for f in ledger.labels("a")] == [
        ("original", "m0"),
        ("final", None),
        ("final", None),
    ]
    assert ledger.stale("m0") == ["b", "gone", "a"]  # scores do not come back
    check_consistent(target)
    assert [p.name for p in target.parent.glob(".*")] == []


def test_unreadable_labels_are_named_and_still_noted(tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"\x1f\x8bnothing")
    report = rebuild(tmp_path / "l.sqlite", ["a"], [LabelOnDisk("a", "final", broken, 5.0)])
    assert list(report.unreadable) == [str(broken)]
    ledger = Ledger(tmp_path / "l.sqlite")
    (kept,) = ledger.submissions("a")
    assert (kept.anonymous, kept.sha256) == (
        True,
        hashlib.sha256(broken.read_bytes()).hexdigest(),
    )
    assert ledger.changes(kept.id) == {}


def test_a_ledger_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.submit("a", ANNA)
    with pytest.raises(LedgerReadOnlyError, match="move it away first"):
        rebuild(ledger.path, ["a"], [])
    assert ledger.submitted("a")


def test_a_rebuild_that_fails_leaves_nothing(tmp_path: Path) -> None:
    missing = LabelOnDisk("a", "other", tmp_path / "missing.nii.gz", 5.0)
    with pytest.raises(FileNotFoundError):
        rebuild(tmp_path / "l.sqlite", ["a"], [missing])
    assert list(tmp_path.iterdir()) == []


def test_what_was_submitted_is_a_round_that_has_ended(tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(10)]
    files = [label(tmp_path / f"{name}.nii.gz", liver=10 + i) for i, name in enumerate(names)]
    labels = [LabelOnDisk(n, "final", f, 9.0) for n, f in zip(names[:4], files, strict=False)]
    rebuild(tmp_path / "l.sqlite", names, labels)
    ledger = Ledger(tmp_path / "l.sqlite", budget=0.3)
    (one,) = ledger.rounds()
    assert (one.reviewed, one.closing) == (4, {"note": "rebuilt from label files"})
    scored(ledger, {name: float(i) for i, name in enumerate(names)})
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.round, sample.budget_left, sample.over_budget) == (2, 3, False)
    plan = ledger.plan(2)
    assert plan is not None
    assert (len(plan.lines), plan.top, plan.reviewed) == (6, 3, 0)


def test_a_rebuild_without_submissions_has_no_round(tmp_path: Path) -> None:
    rebuild(tmp_path / "l.sqlite", ["a"], [])
    assert Ledger(tmp_path / "l.sqlite").rounds() == []


def lost(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def test_what_people_decided_about_volumes_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "l.sqlite"
    before = Ledger(target)
    before.sync_volumes([VolumeEntry(name, "", "1") for name in "abcd"])
    before.exclude("a", "motion", ANNA)
    before.exclude("b", "chest CT", ANNA)
    before.include("b", "it does show the liver", ANNA)
    before.judge_content("c", "not_hu", "no HU")
    before.include("c", "HU are right", ANNA)
    before.judge_content("d", "no_abdomen", "a head")
    before.add_volumes(["gone"])
    before.exclude("gone", "no CT")
    said = {name: before.usability(name) for name in ("a", "b", "gone")}
    before.close()
    lost(target)

    report = rebuild(target, ["a", "b", "c", "d"], [])
    assert report.decisions == 5
    after = Ledger(target)
    assert {name: after.usability(name) for name in said} == said
    assert after.statuses() == {
        "a": "excluded", "b": "open", "c": "open", "d": "open", "gone": "vanished",
    }  # fmt: skip
    # The look at the content is held against the same files as before.
    after.sync_volumes([VolumeEntry(name, "", "1") for name in "abcd"])
    assert not after.judge_content("c", "not_hu", "no HU")
    assert after.judge_content("d", "no_abdomen", "a head")
    check_consistent(target)


def test_decisions_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    target = tmp_path / "l.sqlite"
    decisions_file(target).write_text('{"decisions": [{"volume": "a"}]}')
    report = rebuild(target, ["a"], [])
    assert "cannot be read" in report.unreadable[str(decisions_file(target))]
    assert Ledger(target).statuses() == {"a": "open"}
