"""Commands that are given the URL of an archive, a real Orthanc, as the server was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.orthanc import GRID, tiny_uid
from tests.server.tiny import write_networks
from typer.testing import CliRunner, Result

from atlas8k.cli import app
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti
from atlas8k.store import Ledger, locate
from local_orthanc import Orthanc


def run(*arguments: object, fails: str = "") -> Result:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "80"})
    if fails:
        assert isinstance(result.exception, Atlas8kError), result.output
        assert re.search(fails, str(result.exception)), str(result.exception)
    elif result.exception:
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_an_archive_is_worked_on_by_its_url(orthanc: Orthanc, tmp_path: Path) -> None:
    url, models = orthanc.dicomweb, write_networks(tmp_path / "model")
    run("score", url, "--models", models, "--conf", "device=cpu")
    # With a slash at its end it is the same archive.
    listed = run("rank", "--studies", f"{url}/", "--format", "json").stdout
    volumes = [one["volume"] for one in json.loads(listed)["volumes"]]
    assert sorted(volumes) == sorted(tiny_uid(seed) for seed in range(2))
    assert all(uid in run("rank", "--studies", url).stdout for uid in volumes)
    first = volumes[0]
    assert f"{first}: rank 1 of 2" in " ".join(
        run("explain", first, "--studies", url).stdout.split()
    )
    picture = tmp_path / "look.png"
    run("explain", first, "--studies", url, "--models", models, "--preview", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    label = np.zeros(GRID.shape, np.uint8)
    label[5:12, 5:12, 5:12] = ORGAN_IDS["liver"]
    mine = write_nifti(tmp_path / "mine.nii.gz", label, GRID)
    run("review", "take-over", first, mine, "--studies", url, "--as", "anna")
    history = json.loads(run("labels", "history", first, "--studies", url, "--json").stdout)
    assert [one["holder"] for one in history["history"]] == ["user:anna"]
    status = json.loads(
        run("campaign", "status", "--studies", url, "--models", models, "--json").stdout
    )
    assert status["volumes"]["total"] == 2
    assert "nothing to decide" in run("review", "list", "--studies", url).stdout.lower()
    copy = Path(run("ledger", "backup", tmp_path, "--studies", url).stdout.strip())
    assert Ledger(copy).statuses() == Ledger(locate(url)).statuses()


def test_what_is_for_folders_says_so(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/dicom-web"
    run("rank", "--studies", url, fails="no ledger yet; start the server on http://127.0.0.1:9/")
    run("labels", "import", "BTCV", tmp_path, "--studies", url, fails="DICOM archive; .*give that")
    run("ledger", "rebuild", "--studies", url, fails="DICOM archive; .*restore a backup")
    run(
        *("campaign", "simulate", "--studies", url, "--truth", tmp_path),
        fails="DICOM archive; .*give a folder of CTs",
    )
    run("predict", f"{url}/studies/1.2", fails="is on a server; .*download")
    assert not list(tmp_path.glob("http*"))
