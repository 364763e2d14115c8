"""Killed, or out of disk, at every step of a change of labels: nothing is half there."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import apart
from tests.faults import MODES, Mode, at_every_step, folder_in_memory
from tests.services.labels.test_label_service import (
    ANNA,
    BEN,
    GRID,
    INFO,
    SHAPE,
    START,
    in_step,
    slabs,
)

from atlas8k.cli import labels_import
from atlas8k.cli.labels_import import Importer, Planned
from atlas8k.core.acting import Actor
from atlas8k.core.errors import LedgerError
from atlas8k.core.files import sha256_of
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.labels.datasets import Dataset
from atlas8k.labels.matching import LabelFile
from atlas8k.labels.provenance import read_provenance, write_label
from atlas8k.services.labels.integrity import LabelIntegrity
from atlas8k.services.labels.service import LabelService, Receipt
from atlas8k.services.rebuild import rebuild
from atlas8k.services.rebuild_files import labels_on_disk
from atlas8k.store import Holder, Ledger, OrganSource, audit_trail, label_files

RITA = Holder.identify(user="rita")
PUBLIC = {"liver": OrganSource("public", "present", "LiTS")}
DATASET = Dataset.model_validate(
    {"": "Ours", "values": {ORGAN_IDS[o]: o for o in ("liver", "spleen")}}
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with folder_in_memory(tmp_path) as folder:
        yield folder


class Folder:
    """A studies folder with one CT, and how it is brought back to what it was."""

    def __init__(self, root: Path) -> None:
        self.path, self._before = root / "studies", root / "before"
        self.path.mkdir()
        ct = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int16)
        write_nifti(self.path / "a.nii.gz", ct, GRID)
        self.hers = write_nifti(root / "hers.nii.gz", slabs(liver=(1, 5), spleen=(6, 8)), GRID)
        self.his = write_nifti(root / "his.nii.gz", slabs(liver=(1, 3), spleen=(5, 8)), GRID)

    def keep(self) -> None:
        shutil.copytree(self.path, self._before)

    def put_back(self) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(self._before, self.path)

    def open(self) -> LabelService:
        return LabelService.open(self.path)


def submit(service: LabelService, sent: Path, who: Holder = ANNA) -> Any:
    return service.submit("a", sent, who, {"label_info": INFO})


def state(service: LabelService) -> dict[str, Any]:
    """What the store says of the volume, and the voxels that lie in the folder."""
    book, path = service.ledger, service.folder.path / "labels"
    files = {}
    for tag in ("final", "original", "pseudo", "public"):
        found = service.versions.current("a", tag)
        served = path / tag / "a.nii.gz"
        if tag == "final" and not book.submissions("a"):
            continue  # there is none, or it is a stock folder's and not imported yet
        assert served.exists() == (found is not None), tag
        if found is not None:
            assert served.read_bytes() == found.path.read_bytes(), tag
            files[tag] = found.sha256
    kept = book.submissions("a")
    with book.read() as tx:
        lines = list(audit_trail.lines(tx))
    assert audit_trail.verify(lines).fault == ""
    return {
        "status": book.status("a"),
        "submissions": [(one.holder, one.purpose, one.restored) for one in kept],
        "sources": book.sources("a"),
        "reviews": [(one.kind, one.submission) for one in book.reviews("a")],
        "usable": [(one.usable, one.reason) for one in book.usability("a")],
        "final": files.get("final"),
        # Who did what is there where it is, and only there.
        "audit": [record_of(line) for line in lines],
    }


def record_of(line: bytes) -> tuple[Any, ...]:
    record = json.loads(line)
    return record["action"], record["by"], record.get("volume"), record.get("why_sha256")


def begun(folder: Folder) -> None:
    """A pseudo label, and Anna has the case."""
    with closing(folder.open()) as service:
        service.ledger.register_model_version("m0")
        service.keep_pseudo("a", START, GRID, {"model_version": "m0"})
        service.ledger.lease("a", ANNA, model_version="m0")


def twice(folder: Folder) -> None:
    """Two people have submitted, neither of whom knew the other's, over a public label."""
    begun(folder)
    with closing(folder.open()) as service:
        service.keep_public("a", slabs(liver=(1, 5)), GRID, PUBLIC)
        submit(service, folder.hers)
        submit(service, folder.his, BEN)


def excluded(folder: Folder) -> None:
    begun(folder)
    with closing(folder.open()) as service:
        service.ledger.exclude("a", "motion", BEN)


def stock(folder: Folder) -> None:
    """A label of an annotator's that another server has put there."""
    final = folder.path / "labels" / "final"
    final.mkdir(parents=True)
    shutil.copyfile(folder.hers, final / "a.nii.gz")
    with closing(folder.open()) as service:
        service.ledger.add_volumes(["a"])


def import_public(_: LabelService, folder: Folder) -> None:
    """What ``atlas8k labels import`` does with each file, an unknown organ among them."""
    labels_import._label_service.cache_clear()  # of the folder as it was before
    outcome = Importer(folder.path, None, DATASET)(
        Planned(LabelFile(folder.hers, "a"), "a.nii.gz", "a", None)
    )
    # It goes on with the next file, and says of this one what was wrong.
    if outcome.result not in ("imported", "unchanged"):
        raise LedgerError(outcome.reason)


def look(service: LabelService, _: Folder) -> None:
    seen = audit_trail.Seen(time.time(), "look", Actor(ANNA.key), "a", {"kind": "image"})
    service.ledger.note_seen([seen])


Act = Callable[[LabelService, Folder], object]
ACTS: dict[str, tuple[Callable[[Folder], None], Act]] = {
    "pseudo label": (
        begun,
        lambda service, _: service.keep_pseudo(
            "a", slabs(liver=(2, 6)), GRID, {"model_version": "m0"}
        ),
    ),
    "public label": (
        begun,
        lambda service, _: service.keep_public("a", slabs(liver=(1, 5)), GRID, PUBLIC),
    ),
    "submission": (begun, lambda service, folder: submit(service, folder.hers)),
    "conflict": (
        lambda folder: (begun(folder), submit(folder.open(), folder.hers))[0],
        lambda service, folder: submit(service, folder.his, BEN),
    ),
    "review": (twice, lambda service, _: service.reviews.decide_submission("a", 2, "rita")),
    "decision on an organ": (
        twice,
        lambda service, _: service.reviews.decide_organ("a", "liver", "revised", "rita"),
    ),
    "restore": (twice, lambda service, _: service.reviews.restore("a", 2, RITA)),
    "hand back": (twice, lambda service, _: service.reviews.give_back("a", "rita", "look")),
    "exclude": (begun, lambda service, _: service.ledger.exclude("a", "motion", ANNA)),
    "include": (excluded, lambda service, _: service.ledger.include("a", "it is well", ANNA)),
    "label of a stock folder": (stock, lambda service, _: service.existing.import_all()),
    "labels import": (begun, import_public),
    "audit record": (begun, lambda service, _: service.ledger.note("export", by=ANNA.key)),
    "look": (begun, look),
}
"""What is done, after what. A further one is a line here."""
AGAIN = ("submission", "conflict", "label of a stock folder", "labels import")
"""Done a second time, there is nothing twice."""


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        # One of them before every commit.
        pytest.param(
            name,
            mode,
            marks=() if (name, mode) == ("submission", "kill") else pytest.mark.slow,
        )
        for name in ACTS
        for mode in MODES
    ],
)
def test_at_every_step_it_is_all_there_or_nothing_is(place: Path, name: str, mode: Mode) -> None:
    prepare, act = ACTS[name]
    folder = Folder(place)
    prepare(folder)
    folder.keep()
    with closing(folder.open()) as service:
        nothing = state(service)
        act(service, folder)
        whole = state(service)
    folder.put_back()
    seen = []
    for n in at_every_step(mode, folder.open, lambda service: act(service, folder)):
        with closing(sqlite3.connect(folder.path / ".atlas8k" / "ledger.sqlite")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # Somebody looks before anything has been recovered, and after.
        for recover in (False, True):
            with closing(folder.open()) as service:
                if recover:
                    service.reconciler.recover()
                now = state(service)
                if now["submissions"] or prepare is not stock:  # until then it is anybody's file
                    in_step(service)
            done = now["submissions"] == whole["submissions"] and now["status"] == whole["status"]
            expected = whole if done and now != nothing else nothing
            if name != "pseudo label":  # of which nothing but the file is to be seen here
                assert without_hash(now) == without_hash(expected), (n, recover)
        seen.append(now)
        # The client had no reply, and sends it again; the command is typed again.
        if name in AGAIN:
            with closing(folder.open()) as service:
                again = act(service, folder)
                if isinstance(again, Receipt):
                    assert again.again == (now["submissions"] == whole["submissions"]), n
                assert without_hash(state(service)) == without_hash(whole), n
                in_step(service)
        folder.put_back()
    assert without_hash(seen[0]) == without_hash(nothing)
    assert without_hash(seen[-1]) == without_hash(whole)
    assert len(seen) > 1  # it has steps


def test_a_submission_sent_again_after_a_crash_is_one_in_a_rebuilt_store(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    begun(folder)
    with closing(folder.open()) as service:

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(label_files, "make_current", dies)
            with pytest.raises(KeyboardInterrupt):
                submit(service, folder.hers)
        receipt = submit(service, folder.hers)
        assert not receipt.again
    written = folder.path / "labels" / ".history" / "final" / "a"
    assert len(list(written.iterdir())) == 2  # the first one's file is there still
    report = rebuild(tmp_path / "l.sqlite", ["a"], list(labels_on_disk(folder.path)))
    assert report.submissions == 1
    with closing(Ledger(tmp_path / "l.sqlite")) as book:
        (only,) = book.submissions("a")
        assert only.holder == ANNA.key


def submit_until_its_file_is_written(folder: Folder) -> None:
    label_files.make_current = lambda *_: os._exit(9)  # type: ignore[assignment]
    submit(folder.open(), folder.hers)


def killed_before_it_is_recorded(folder: Folder) -> None:
    """Her submission in a process of its own, which ends once its file is written."""
    assert apart.run(submit_until_its_file_is_written, folder) == 9
    assert len(list((folder.path / "labels" / ".history" / "final" / "a").iterdir())) == 1


def test_what_could_not_be_recorded_leaves_no_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    begun(folder)
    with closing(folder.open()) as service:
        with pytest.MonkeyPatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(28, "no space left")

            patch.setattr(label_files, "make_current", full)
            with pytest.raises(OSError, match="no space"):
                submit(service, folder.hers)
        assert list((folder.path / "labels" / ".history" / "final" / "a").iterdir()) == []
        assert not submit(service, folder.hers).again


@pytest.mark.parametrize("between", ["a colleague", "another lease", "both"])
def test_sent_again_under_another_lease_it_is_one_in_a_rebuilt_store(
    tmp_path: Path, between: str
) -> None:
    """The lease had run out by then, or somebody else's submission has taken the number."""
    folder = Folder(tmp_path)
    ct = np.random.default_rng(0).integers(-100, 100, SHAPE).astype(np.int16)
    write_nifti(folder.path / "b.nii.gz", ct, GRID)
    begun(folder)
    killed_before_it_is_recorded(folder)
    with closing(folder.open()) as service:
        if between != "another lease":
            service.submit("b", folder.his, BEN, {"label_info": INFO})
        if between != "a colleague":
            service.ledger.release("a", ANNA)
            service.ledger.lease("a", ANNA, model_version="m0")
        assert not submit(service, folder.hers).again
        told = [(one.id, one.holder, one.sha256) for one in service.ledger.submissions("a")]
        assert len(told) == 1
    rebuild(tmp_path / "l.sqlite", ["a", "b"], list(labels_on_disk(folder.path)))
    with closing(Ledger(tmp_path / "l.sqlite")) as book:
        now = [(one.id, one.holder, one.sha256) for one in book.submissions("a")]
        assert now == told
        assert len(book.submissions("b")) == (between != "another lease")


def test_the_same_label_after_it_was_handed_back_is_another_in_a_rebuilt_store(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    begun(folder)
    with closing(folder.open()) as service:
        submit(service, folder.hers)
        service.reviews.reopen("a")
        service.ledger.lease("a", ANNA, model_version="m0")
        assert not submit(service, folder.hers).again
        told = [(one.id, one.sha256) for one in service.ledger.submissions("a")]
        assert len(told) == 2
    rebuild(tmp_path / "l.sqlite", ["a"], list(labels_on_disk(folder.path)))
    with closing(Ledger(tmp_path / "l.sqlite")) as book:
        assert [(one.id, one.sha256) for one in book.submissions("a")] == told


def test_a_rebuilt_store_knows_altered_files_for_what_they_were(tmp_path: Path) -> None:
    """One flipped in its kept copy, one edited in place with its header, one deleted there."""
    folder = Folder(tmp_path)
    for name in ("b", "c"):
        shutil.copy(folder.path / "a.nii.gz", folder.path / f"{name}.nii.gz")
    begun(folder)
    with closing(folder.open()) as service:
        for volume in "abc":
            service.submit(volume, folder.hers, ANNA, {"label_info": INFO})
        told = {v: [(o.id, o.sha256) for o in service.ledger.submissions(v)] for v in "abc"}
        kept = {v: service.versions.current(v, "final").path for v in "abc"}  # type: ignore[union-attr]
        before = state(service)
    data = bytearray(kept["a"].read_bytes())
    data[20] ^= 1  # it cannot be read any more
    kept["a"].write_bytes(data)
    served = {v: folder.path / "labels" / "final" / f"{v}.nii.gz" for v in "abc"}
    edited = read_label(served["b"])
    write_label(served["b"], slabs(liver=(2, 3)), edited.grid, read_provenance(served["b"]))  # type: ignore[arg-type]
    served["c"].unlink()
    ledger = folder.path / ".atlas8k" / "ledger.sqlite"
    ledger.unlink()
    report = rebuild(ledger, [*"abc"], list(labels_on_disk(folder.path)), studies=folder.path)
    assert report.submissions == 3
    assert set(report.unreadable) == {str(kept["a"]), str(served["b"])}
    with closing(folder.open()) as service:
        assert {v: [(o.id, o.sha256) for o in service.ledger.submissions(v)] for v in "abc"} == told
        faults = list(LabelIntegrity(service.folder).check([*"abc"], mend=True))
        assert {one.volume for one in faults} == {*"abc"}
        assert all(one.mended for one in faults)
        # Its audit trail begins with that; the rest is as it was.
        assert {**state(service), "audit": None} == {**before, "audit": None}
        for volume in "abc":
            assert sha256_of(served[volume]) == sha256_of(kept[volume]) == told[volume][0][1]


def without_hash(of: dict[str, Any]) -> dict[str, Any]:
    """A file says when it was submitted: done again, it is another."""
    return {**of, "final": of["final"] is not None}
