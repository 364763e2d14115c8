"""A ledger that was lost is never replaced by a new one in silence."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from tests.services.labels.test_crash import Folder, begun, submit

from atlas8k.core.settings import Settings
from atlas8k.services.labels.service import LabelService
from atlas8k.services.opening import open_context
from atlas8k.services.rebuild import rebuild
from atlas8k.services.rebuild_files import labels_on_disk
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.opening import open_ledger
from atlas8k.store import Ledger, LedgerLostError, locate


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    begun(folder)
    with closing(folder.open()) as service:
        submit(service, folder.hers)
    return folder


def lose(folder: Folder, how: str) -> Path:
    ledger = locate(str(folder.path))
    for suffix in ("", "-wal", "-shm"):
        ledger.with_name(ledger.name + suffix).unlink(missing_ok=True)
    if how == "empty":
        ledger.touch()
    elif how == "new":  # as an earlier release would have left it
        Ledger(ledger).close()
    elif how == "folder":
        shutil.rmtree(ledger.parent)
    return ledger


@pytest.mark.parametrize("how", ["missing", "empty", "new", "folder"])
def test_a_lost_ledger_is_refused_and_says_what_to_do(
    folder: Folder, tmp_path: Path, how: str
) -> None:
    ledger = lose(folder, how)
    before = ledger.read_bytes() if ledger.exists() else None
    for opens in (
        lambda: open_context(Settings(device="cpu"), str(folder.path), tmp_path / "model"),
        lambda: LabelService.open(folder.path),
        lambda: StudiesFolder(folder.path, watch=False),
    ):
        with pytest.raises(LedgerLostError) as refused:
            opens()
        text = str(refused.value)
        assert "1 of them submitted" in text
        assert "atlas8k restore" in text
        assert f"atlas8k ledger rebuild --studies {folder.path}" in text
        assert ("--replace" in text) == (before is not None)
        assert (ledger.read_bytes() if ledger.exists() else None) == before
    if before is not None:
        ledger.rename(tmp_path / "aside")
    rebuild(ledger, ["a"], labels_on_disk(folder.path), studies=folder.path)
    with closing(folder.open()) as service:
        assert len(service.ledger.submissions("a")) == 1


def test_decisions_and_copies_of_a_ledger_are_traces_too(tmp_path: Path) -> None:
    path = tmp_path / ".atlas8k" / "ledger.sqlite"
    ledger = open_ledger(tmp_path, path)
    ledger.add_volumes(["a"])
    ledger.exclude("a", "motion")
    ledger.backup(path.parent / "ledger-20260101T000000Z.sqlite")
    ledger.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with pytest.raises(LedgerLostError, match=r"decisions about CTs.*ledger-20260101T000000Z"):
        open_ledger(tmp_path, path)
    (path.parent / "ledger-20260101T000000Z.sqlite").unlink()
    (path.parent / "ledger-decisions.json").unlink()
    open_ledger(tmp_path, path).close()


def test_a_first_label_that_was_killed_is_no_trace(folder: Folder) -> None:
    """The file is written before the store knows of it: the next start must be one."""
    shutil.rmtree(folder.path / "labels")
    shutil.rmtree(folder.path / ".atlas8k")
    with closing(folder.open()) as service, service.folder.labels.incoming("final") as written:
        service.folder.labels.keep("a", "final", written, ".nii.gz", {})
    folder.open().close()


def test_labels_of_stock_monai_label_are_no_campaign(folder: Folder) -> None:
    shutil.rmtree(folder.path / "labels" / ".history")
    shutil.rmtree(folder.path / ".atlas8k")
    with closing(folder.open()) as service:
        assert service.existing.hold_back() == 1
