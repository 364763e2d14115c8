"""Annotators at the server, a data manager and a reviewer at the command line, one case.

The server runs all the while: a command is another process for it, on the same files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests
from monailabel.client import MONAILabelClient
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, small_server
from tests.server.tiny import GRID
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.services.labels.service import LabelService

pytestmark = pytest.mark.slow
Labels = npt.NDArray[np.uint8]
CASE = "liver_1"
INFO = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]


def slabs(**where: tuple[int, int]) -> Labels:
    array = np.zeros(GRID.shape, np.uint8)
    for organ, (start, stop) in where.items():
        array[start:stop] = ORGAN_IDS[organ]
    return array


class Case:
    """The case as everybody can see it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder

    def label(self, tag: str) -> Labels:
        return read_label(Path(self.client("reader").download_label(CASE, tag))).array

    def client(self, who: str) -> MONAILabelClient:
        return MONAILabelClient(self.server.url, tmpdir=str(self.folder), client_id=who)

    def submit(self, who: str, array: Labels) -> dict[str, Any]:
        path = write_nifti(self.folder / f"{who}.nii.gz", array, GRID)
        reply: dict[str, Any] = self.client(who).save_label(
            CASE, str(path), params={"label_info": INFO}
        )
        return reply

    def command(self, *arguments: object) -> str:
        where = ["--studies", str(self.server.studies)]
        result = CliRunner().invoke(
            app, [*map(str, arguments), *where], env={"COLUMNS": "200"}, catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return result.stdout

    def asked(self) -> list[tuple[str, str | None]]:
        """What a reviewer has to decide; the command and the server say the same."""
        found = json.loads(self.command("review", "list", "--json"))
        answer = requests.get(f"{self.server.url}/atlas8k/review", timeout=LIMIT_S)
        assert answer.json() == found
        return [(one["kind"], one["organ"]) for one in found["open"]]

    def sources(self) -> dict[str, Any]:
        found = json.loads(self.command("labels", "history", CASE, "--json"))["organs"]
        return {organ: (one["source"], one["state"]) for organ, one in found.items()}

    def revisions(self) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.server.url}/atlas8k/labels/{CASE}/history", timeout=LIMIT_S)
        history: list[dict[str, Any]] = answer.json()["history"]
        return history


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with small_server(tmp_path, images=(CASE,)) as server:
        yield Case(server, tmp_path)


def test_nothing_is_lost_and_the_start_label_is_right_at_each_step(case: Case) -> None:
    pseudo = slabs(liver=(2, 5), spleen=(8, 11), stomach=(14, 15))
    label_service = LabelService.open(case.server.studies)
    label_service.keep_pseudo(CASE, pseudo, GRID, {"model_version": "none"})
    label_service.close()
    assert np.array_equal(case.label("original"), pseudo)

    # A dataset's label, its liver (1) with a tumour (2) in it, while the server runs.
    lits = case.folder / "LiTS"
    lits.mkdir()
    public = np.zeros(GRID.shape, np.uint8)
    public[1:6], public[3, 4:6, 4:6] = 1, 2
    write_nifti(lits / f"{CASE}.nii.gz", public, GRID)
    assert "1 imported" in case.command("labels", "import", "LiTS", lits)
    start = slabs(liver=(1, 6), spleen=(8, 11), stomach=(14, 15))
    assert np.array_equal(case.label("original"), start)
    assert case.sources()["liver"] == ("public", "present")

    # Anna is given it, Ben opens it by its name; she takes a slice of the liver away.
    assert case.client("anna").next_sample("first", {})["id"] == CASE
    hers, his = start.copy(), start.copy()
    hers[5], hers[11] = 0, ORGAN_IDS["spleen"]
    his[8], his[16] = 0, ORGAN_IDS["pancreas"]
    first, second = case.submit("anna", hers), case.submit("ben", his)
    assert (first["conflict"], first["disputes"]) == (False, ["liver"])
    assert (second["conflict"], second["disputes"]) == (True, [])
    assert case.asked() == [("dispute", "liver"), ("conflict", None)]
    # The public liver counts until somebody decides; the rest is as Anna has it.
    expected = hers.copy()
    expected[5] = ORGAN_IDS["liver"]
    assert np.array_equal(case.label("original"), expected)
    assert np.array_equal(case.label("final"), hers)

    case.command("review", "decide", CASE, "--organ", "liver", "--source", "revised")
    assert case.asked() == [("conflict", None)]
    assert np.array_equal(case.label("original"), hers)
    case.command("review", "decide", CASE, "--submission", second["submission"], "--as", "rita")
    assert case.asked() == []
    assert np.array_equal(case.label("final"), his)
    assert case.sources()["pancreas"] == ("revised", "revised")
    # His liver is the public one as it is.
    assert np.array_equal(case.label("original"), his)

    # Opened again, served with the last revision, submitted anew, and taken back.
    case.command("labels", "reopen", CASE, "--note", "the tip of the spleen")
    sample = case.client("carl").next_sample("first", {})
    assert (sample["id"], sample["note"]) == (CASE, "the tip of the spleen")
    third_array = case.label("original")
    assert np.array_equal(third_array, his)
    third_array[12] = ORGAN_IDS["spleen"]
    third = case.submit("carl", third_array)
    assert (third["conflict"], third["in_force"]) == (False, True)
    assert np.array_equal(case.label("original"), third_array)
    case.command("labels", "restore", CASE, first["submission"], "--as", "rita")
    assert np.array_equal(case.label("final"), hers)

    # Every revision is there as it was sent, and who sent it.
    kept = case.revisions()
    assert [one["in_force"] for one in kept] == [False, False, False, True]
    holders = ["client:anna", "client:ben", "client:carl"]
    assert [one["holder"] for one in kept][:3] == holders
    for one, array in zip(kept, (hers, his, third_array, hers), strict=True):
        path = f"/atlas8k/labels/{CASE}/history/{one['id']}"
        answer = requests.get(case.server.url + path, timeout=LIMIT_S)
        assert answer.status_code == 200
        file = case.folder / "revision.nii.gz"
        file.write_bytes(answer.content)
        assert np.array_equal(read_label(file).array, array), one["id"]
    # The dataset's own label is there, too, and importing it again changes nothing.
    assert np.array_equal(case.label("public"), slabs(liver=(1, 6)))
    before = case.label("original")
    assert "1 unchanged" in case.command("labels", "import", "LiTS", lits)
    assert np.array_equal(case.label("original"), before)
