"""Files of drawings: a whole one is there, whatever is saved, refused or killed on the way."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.faults import MODES, Mode, at_every_step
from tests.server.tiny import GRID, write_ct

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.files import sha256_of
from atlas8k.core.grid import Grid
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.services.backups.make import make_backup
from atlas8k.services.backups.place import Place as Location
from atlas8k.services.backups.restore import restore_backup
from atlas8k.services.drawings import LEFT_OVER_S, NOTE, Drawings
from atlas8k.services.errors import ConflictError, NotFoundError
from atlas8k.services.labels.service import LabelService
from atlas8k.services.rebuild import rebuild_ledger
from atlas8k.store import Holder

ANNA = Holder("client:anna")


class Place:
    """A studies folder with one CT, in Anna's hands."""

    def __init__(self, folder: Path) -> None:
        self.studies = folder / "studies"
        self.studies.mkdir()
        write_ct(self.studies / "a.nii.gz")
        self.sent = [self.label(folder, value) for value in (5, 8)]
        with closing(self.open()) as service:
            service.ledger.add_volumes(["a"])
            assert service.ledger.lease("a", ANNA) is not None

    @staticmethod
    def label(folder: Path, value: int, grid: Grid = GRID) -> Path:
        array = np.full(grid.shape, value, np.uint8)
        return write_nifti(folder / f"{value}{grid.shape[0]}.nii.gz", array, grid)

    def open(self) -> LabelService:
        return LabelService.open(self.studies)

    def drawings(self, service: LabelService, who: str = ANNA.key) -> Drawings:
        """Of a context that has what drawings need of one."""
        context: Any = SimpleNamespace(
            studies=service.folder, ledger=service.ledger, state=self.studies / ".atlas8k"
        )
        return Drawings(context, [who])

    def save(self, service: LabelService, number: int, version: int, **more: Any) -> Any:
        fingerprint = service.folder.fingerprint("a")
        return self.drawings(service).save(
            "a",
            self.sent[number],
            **{"version": version, "fingerprint": fingerprint, "said": {}, **more},
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_last_one_is_kept_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas8k.services.drawings.REPLACED_S", -1.0)
    with closing(place.open()) as service:
        assert place.drawings(service).find("a") is None
        assert place.save(service, 0, 0).version == 1
        assert place.save(service, 1, 1, said={"x": 1}).version == 2
        drawings = place.drawings(service)
        found = drawings.find("a")
        assert found is not None
        assert found.said == {"x": 1}
        names = sorted(one.name for one in drawings.folder.iterdir())
        assert names == [found.file, found.file + NOTE]
        assert (read_label(drawings.file(found)).array == 8).all()
        assert drawings.current("a") == drawings.file(found)
        assert place.drawings(service, "client:ben").find("a") is None
        drawings.discard("a")
        assert drawings.find("a") is None
        assert not list(drawings.folder.iterdir())


def test_a_backup_finds_the_one_before_for_a_while(place: Place) -> None:
    with closing(place.open()) as service:
        place.save(service, 0, 0)
        before = place.drawings(service).current("a")
        assert before is not None
        place.save(service, 1, 1)
        assert before.is_file()
        place.drawings(service).discard("a")
        assert not list(before.parent.iterdir())


def test_one_whose_file_is_lost_is_begun_anew(place: Place) -> None:
    with closing(place.open()) as service:
        place.save(service, 0, 0)
        place.save(service, 1, 1)
        for path in place.drawings(service).folder.iterdir():
            path.unlink()
        assert place.drawings(service).find("a") is None
        assert place.save(service, 0, 0).version == 1


def test_a_ledger_made_anew_has_it(place: Place) -> None:
    """From what lies beside the file; not where its holder has submitted since."""
    with closing(place.open()) as service:
        place.save(service, 0, 0)
        place.save(service, 1, 1, said={"organs": {"liver": "changed"}})
        ledger = service.ledger.path
    report, _ = rebuild_ledger(place.studies, ledger)
    assert report.drawings == 1
    with closing(place.open()) as service:
        found = place.drawings(service).find("a")
        assert found is not None
        assert (found.version, found.said) == (2, {"organs": {"liver": "changed"}})
        assert (read_label(place.drawings(service).file(found)).array == 8).all()
        service.submit("a", place.drawings(service).file(found), ANNA, {"looked_at": "all"})
    assert rebuild_ledger(place.studies, ledger)[0].drawings == 0


def test_a_backup_has_it(place: Place, tmp_path: Path) -> None:
    with closing(place.open()) as service:
        place.save(service, 1, 0)
        ledger = service.ledger.path
    models = tmp_path / "models"
    models.mkdir()
    make_backup(tmp_path / "backup", Location.of(str(place.studies), ledger, models, models))
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    shutil.copy(place.studies / "a.nii.gz", empty)
    there = Location.of(str(empty), None, models, models)
    restored = restore_backup(tmp_path / "backup", there)
    assert not restored.damaged
    place.studies = empty
    with closing(place.open()) as service:
        found = place.drawings(service).find("a")
        assert found is not None
        assert (read_label(place.drawings(service).file(found)).array == 8).all()


def test_what_is_refused(place: Place, tmp_path: Path) -> None:
    other = Grid((7, *GRID.shape[1:]), GRID.affine)
    with closing(place.open()) as service:
        with pytest.raises(ConflictError, match="take it before you draw"):
            place.drawings(service, "client:ben").save(
                "a", place.sent[0], version=0, fingerprint="", said={}
            )
        with pytest.raises(ConflictError, match="the CT was replaced"):
            place.save(service, 0, 0, fingerprint="another")
        with pytest.raises(GridMismatchError, match="not the shape of the CT"):
            place.drawings(service).save(
                "a",
                place.label(tmp_path, 5, other),
                version=0,
                fingerprint=str(service.folder.fingerprint("a")),
                said={},
            )
        assert place.save(service, 0, 0).version == 1
        with pytest.raises(ConflictError, match="another tab or computer has saved version 1"):
            place.save(service, 1, 0)
        place.drawings(service).discard("a")
        with pytest.raises(ConflictError, match="submitted or discarded in another tab"):
            place.save(service, 1, 1)
        assert place.save(service, 0, 0).version == 1
        (place.studies / "a.nii.gz").unlink()
        service.folder.refresh()
        with pytest.raises(NotFoundError):
            place.save(service, 1, 1)
        assert place.drawings(service).find("a") is not None


def test_without_a_lease_one_goes_on_with_what_one_has_drawn(place: Place) -> None:
    with closing(place.open()) as service:
        place.save(service, 0, 0)
        service.ledger.release("a", ANNA)
        assert place.save(service, 1, 1).version == 2


def test_what_a_killed_server_left_is_removed(place: Place) -> None:
    with closing(place.open()) as service:
        place.save(service, 0, 0)
        folder = place.drawings(service).folder
        old, new = folder / "old.nii.gz", folder / "new.nii.gz"
        for path in (old, new):
            path.write_bytes(b"x")
        long_ago = time.time() - LEFT_OVER_S - 60
        os.utime(old, (long_ago, long_ago))
        place.save(service, 1, 1)
        assert not old.exists()
        assert new.exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_killed_failed_or_full_at_every_step(place: Place, mode: Mode) -> None:
    """The drawing before is there whole, or the new one."""
    with closing(place.open()) as service:
        version = place.save(service, 0, 0).version

    def act(service: LabelService) -> None:
        place.save(service, 1, version)

    for step in at_every_step(mode, place.open, act):
        with closing(place.open()) as service:
            drawings = place.drawings(service)
            found = drawings.find("a")
            assert found is not None, step
            assert sha256_of(drawings.file(found)) == found.sha256, step
            assert found.version in (version, version + 1), step
            drawings.discard("a")
            version = place.save(service, 0, 0).version
