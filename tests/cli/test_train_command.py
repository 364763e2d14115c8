"""`atlas8k train` on a studies folder that a server uses, and on disks that cannot be written."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from tests.headers import write_header
from tests.server.tiny import GRID, write_ct, write_networks
from typer.testing import CliRunner, Result

from atlas8k.cli import app
from atlas8k.core.errors import GeometryError, TrainingError
from atlas8k.core.settings import Settings
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.services.opening import open_context
from atlas8k.store import Holder, Ledger, OrganSource

commands = importlib.import_module("atlas8k.cli.train")
ANNA = Holder.identify(user="anna")
LIVER, SPLEEN = 5, 8


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A volume with a public label and one with a submission; the ledger lies elsewhere."""
    folder, ledger = tmp_path / "studies", tmp_path / "fast" / "ledger.sqlite"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        write_ct(folder / f"{name}.nii.gz", seed)
    models = write_networks(tmp_path / "model")
    context = open_context(Settings(device="cpu", ledger=ledger), str(folder), models)
    assert context.label_service is not None
    public = {"liver": OrganSource("public", "present", "lits")}
    context.label_service.keep_public("a", drawn(LIVER), GRID, public)
    context.label_service.keep_pseudo("a", drawn(SPLEEN), GRID, {"model_version": "m"})
    path = write_nifti(tmp_path / "sent.nii.gz", drawn(SPLEEN), GRID)
    context.label_service.submit("b", path, ANNA)
    context.close()
    return folder


def drawn(organ: int) -> Any:
    array = np.zeros(GRID.shape, np.uint8)
    at = 2 if organ == LIVER else 10
    array[at : at + 6, 4:12, 4:12] = organ
    return array


def content(studies: Path) -> dict[str, str]:
    labels = (path for path in (studies / "labels").rglob("*") if path.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in labels}


def train(studies: Path, out: Path, *more: str) -> Result:
    arguments = ["train", str(out), "--studies", str(studies), "--network", "unet"]
    arguments += ["--epochs", "1", "--steps", "1", "--threads", "1"]
    return CliRunner().invoke(app, [*arguments, "--training", '{"patch": [32, 32, 32]}', *more])


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """Organs by case that a training gets; nothing is trained."""
    found: dict[str, tuple[str, ...]] = {}

    real = commands.labeled_studies

    def labeled(*arguments: Any) -> Any:
        found.update({case.name: case.known_organs for case in real(*arguments)})
        raise typer.Exit(0)

    monkeypatch.setattr(commands, "labeled_studies", labeled)
    return found


def test_a_ledger_elsewhere_is_needed_and_nothing_is_changed(
    studies: Path, tmp_path: Path, learned: dict[str, tuple[str, ...]]
) -> None:
    before, ledger = content(studies), tmp_path / "fast" / "ledger.sqlite"
    done = train(studies, tmp_path / "out")
    assert isinstance(done.exception, TrainingError)
    assert "give --ledger" in str(done.exception)
    assert not (studies / ".atlas8k" / "ledger.sqlite").exists()
    done = train(studies, tmp_path / "out", "--ledger", str(tmp_path / "none.sqlite"))
    assert isinstance(done.exception, TrainingError)
    assert "none.sqlite: there is no such ledger" in str(done.exception)
    assert content(studies) == before

    done = train(studies, tmp_path / "out", "--ledger", str(ledger))
    assert done.exit_code == 0, done.exception
    assert learned == {"a": ("liver",), "b": ("spleen",)}
    assert content(studies) == before


def test_a_ledger_that_never_heard_of_the_public_labels_is_refused(
    studies: Path, tmp_path: Path
) -> None:
    """As one that another command has made beside the studies."""
    before, other = content(studies), tmp_path / "other.sqlite"
    ledger = Ledger(other)
    ledger.sync_volumes(["another"])  # an empty one is refused before
    ledger.close()
    done = train(studies, tmp_path / "out", "--ledger", str(other))
    assert isinstance(done.exception, TrainingError)
    assert "nothing of the public labels of 1 volumes" in str(done.exception)
    assert content(studies) == before


def test_labels_that_the_ledger_does_not_have_yet_are_left_out_and_said(
    studies: Path,
    tmp_path: Path,
    learned: dict[str, tuple[str, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = tmp_path / "fast" / "ledger.sqlite"
    write_ct(studies / "c.nii.gz", 3)
    write_nifti(studies / "labels" / "final" / "c.nii.gz", drawn(LIVER), GRID)  # by hand
    before = content(studies)
    done = train(studies, tmp_path / "out", "--ledger", str(ledger))
    assert done.exit_code == 0, done.exception
    assert set(learned) == {"a", "b"}
    assert "not trained on 1 volumes whose labels/final is not in the ledger" in caplog.text
    assert content(studies) == before


def test_a_folder_that_cannot_be_made_and_a_disk_that_fills_up_are_one_line(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--ledger", str(tmp_path / "fast" / "ledger.sqlite")]
    (tmp_path / "file").touch()
    done = train(studies, tmp_path / "file" / "out", *given)
    assert isinstance(done.exception, TrainingError)
    assert "may be read and written" in str(done.exception)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands, "labeled_studies", full)
    done = train(studies, tmp_path / "out", *given)
    assert isinstance(done.exception, TrainingError)
    assert "No space left on device" in str(done.exception)


def test_files_that_do_not_say_how_their_axes_run_are_trained_on_where_it_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    affine = np.diag([-6.0, -6.0, 6.0, 1.0])
    affine[:3, 3] = 90, 120, -300
    shape = (16, 18, 20)
    label = np.zeros(shape, np.uint8)
    label[3:8, 4:9, 5:12] = LIVER
    ct = np.random.default_rng(0).normal(40, 20, shape).astype(np.int16)
    for name in ("ct", "placed", "bare"):
        (tmp_path / name).mkdir()
    write_nifti(tmp_path / "ct" / "a.nii.gz", ct, Grid(shape, affine))
    write_nifti(tmp_path / "placed" / "a.nii.gz", label, Grid(shape, affine))
    write_header(tmp_path / "bare.nii.gz", affine, affine, (0, 0), label)
    (tmp_path / "bare.nii.gz").rename(tmp_path / "bare" / "a.nii.gz")
    found: list[Any] = []

    def trained(_output: Path, _starts: Any, cases: Any, *_: Any) -> None:
        found.extend(cases)

    monkeypatch.setattr(commands, "_run", trained)
    grid = Preprocessing(spacing_mm=(6.0,) * 3, window_size=(16,) * 3)
    for folder, more in (("placed", []), ("bare", ["--orientation", "LPS"]), ("bare", [])):
        given = ["--images", str(tmp_path / "ct"), "--labels", str(tmp_path / folder), *more]
        arguments = ["train", str(tmp_path / "out"), "--network", "unet", *given]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.exception
    placed, bare, refused = found
    np.testing.assert_array_equal(bare.load(grid).label, placed.load(grid).label)
    assert (bare.load(grid).label == LIVER).any()
    with pytest.raises(GeometryError, match=r"--orientation RAS .* train"):
        refused.load(grid)
