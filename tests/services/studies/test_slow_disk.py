"""A studies folder on a slow network file system: each file is looked at seldom, and once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from atlas8k.core.settings import Settings
from atlas8k.core.stated_geometry import STATED_NAME
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context

COUNT = 40


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Empty files: what is listed goes by names."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"ct_{number:02d}.nii.gz").write_bytes(b"x" * number)
    (folder / "case" / "one").mkdir(parents=True)
    (folder / "case" / "ct.nii.gz").write_bytes(b"a tree")
    (folder / STATED_NAME).write_text("ct_0*: LPS\ncase: RAS\n")
    return folder


@pytest.fixture
def context(studies: Path) -> Iterator[Context]:
    settings = Settings(networks=False, check_content=False)
    opened = open_context(settings, str(studies), studies.parent / "model")
    yield opened
    opened.close()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch, studies: Path) -> Counter[str]:
    """How often each CT and file of statements was asked for its size and time, by who waits."""
    found: Counter[str] = Counter()
    stat = os.stat

    def counted(path: object, *arguments: object, **more: object) -> os.stat_result:
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        ours = str(name).startswith(str(studies)) and str(name).endswith((".gz", STATED_NAME))
        if ours and threading.current_thread().name != "studies-watcher":
            found[os.path.relpath(str(name), studies)] += 1
        return stat(path, *arguments, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(os, "stat", counted)
    return found


def test_many_at_once_are_as_one_after_the_other(context: Context, studies: Path) -> None:
    ids = [*context.studies.now().ids(), "never_there"]
    (studies / "ct_07.nii.gz").unlink()
    found = dict(context.studies.fingerprints(ids))
    each = {one: context.studies.fingerprint(one) for one in ids}
    assert found == {one: mark for one, mark in each.items() if mark is not None}
    assert len(found) == COUNT
    assert found["ct_05"].endswith("-LPS")
    assert found["case"].endswith("-RAS")
    assert found["ct_12"].count("-") == 1


def test_each_file_is_looked_at_once(context: Context, looked: Counter[str]) -> None:
    context.sync()
    assert len(looked) == COUNT + 3  # two folders may have statements
    assert looked[f"case/{STATED_NAME}"] == 1
    assert max(looked[f"ct_{n:02d}.nii.gz"] for n in range(COUNT)) == 1
    assert looked[STATED_NAME] <= 16  # by each of those that begin together
    looked.clear()
    context.sync(thorough=True)
    assert max(looked[f"ct_{n:02d}.nii.gz"] for n in range(COUNT)) <= 2  # refresh looks, too


def test_what_is_known_is_not_looked_at_for_a_new_name(
    context: Context, studies: Path, looked: Counter[str]
) -> None:
    context.sync()
    (studies / "new.nii.gz").write_bytes(b"new")
    context.studies.refresh()
    looked.clear()
    context.sync()
    assert {name for name in looked if name.endswith(".gz")} == {"new.nii.gz"}
    assert context.ledger.is_known("new")


def test_one_that_changed_in_place_is_found_by_a_thorough_look(
    context: Context, studies: Path
) -> None:
    context.sync()
    (studies / "ct_03.nii.gz").write_bytes(b"another patient")
    (studies / "new.nii.gz").write_bytes(b"new")
    context.studies.refresh()

    def marks() -> dict[str, str]:
        with context.ledger.read() as tx:
            return dict(tx.run("SELECT name, fingerprint FROM volume").fetchall())

    before = marks()["ct_03"]
    context.sync()
    assert marks()["ct_03"] == before
    assert marks()["new"] == context.studies.fingerprint("new")
    context.sync(thorough=True)
    assert marks()["ct_03"] == context.studies.fingerprint("ct_03") != before
    # One that was away is looked at when it comes back.
    (studies / "ct_04.nii.gz").rename(studies.parent / "away.nii.gz")
    context.studies.refresh()
    context.sync()
    (studies / "ct_04.nii.gz").write_bytes(b"somebody else")
    context.studies.refresh()
    context.sync()
    assert marks()["ct_04"] == context.studies.fingerprint("ct_04")


def test_one_that_lies_elsewhere_now_is_looked_at(context: Context, studies: Path) -> None:
    context.sync()
    (studies / "ct_06.nii.gz").unlink()
    (studies / "ct_06.nii").write_bytes(b"unpacked")
    context.studies.refresh()
    context.sync()
    assert context.ledger.fingerprints()["ct_06"] == context.studies.fingerprint("ct_06")


def test_what_others_enter_during_a_long_look_stays(
    context: Context, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.sync()
    looks = context.studies.fingerprints

    def long(names: Iterable[str]) -> Iterator[tuple[str, str]]:
        found = list(looks(names))
        # Meanwhile a file changes and one comes, and another process knows both.
        monkeypatch.setattr(context.studies, "fingerprints", looks)
        (studies / "ct_08.nii.gz").write_bytes(b"of today")
        (studies / "late.nii.gz").write_bytes(b"late")
        context.sync(thorough=True)
        yield from found

    monkeypatch.setattr(context.studies, "fingerprints", long)
    context.sync(thorough=True)
    known = context.ledger.fingerprints()
    assert known["ct_08"] == context.studies.fingerprint("ct_08")
    assert "late" in known
