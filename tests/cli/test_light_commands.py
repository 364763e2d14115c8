"""Commands that say little, or refuse, load no torch for it: seconds are not waited for a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Ledger, OrganScore, locate

SCRIPT = """
import json, sys
from typer.testing import CliRunner
from atlas8k.cli import app

found = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, arguments)
    slow = [name for name in ("torch", "monai", "monailabel") if name in sys.modules]
    said = f"{result.output}{result.exception or ''}"
    found.append([arguments, slow, result.exit_code, said])
print(json.dumps(found))
"""


def test_no_torch_for_a_line_of_text(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    book = Ledger(locate(str(studies)))
    book.sync_volumes(["a", "b"])
    book.register_model_version("m0")
    for name in "ab":
        score = OrganScore(1.0, figures={"salient": 1.0})
        book.record_score(name, "m0", dict.fromkeys(ORGAN_NAMES, score))
    book.close()
    where = ["--studies", str(studies)]
    nowhere = str(tmp_path / "nowhere")
    commands = {
        0: [
            ["--help"],
            ["--version"],
            ["campaign", "status", *where],
            ["campaign", "next", "--dry-run", *where],
            ["campaign", "schema"],
            ["weights", "list"],
            ["weights", "list", "--json"],
            ["weights", "rollback", "--history"],
            ["labels", "datasets"],
            ["labels", "history", "a", *where],
            ["review", "list", *where],
            ["rank", *where],
            ["ledger", "backup", str(tmp_path), *where],
        ],
        1: [
            ["weights", "import", nowhere],
            ["weights", "publish", "nowhere"],
            ["campaign", "status", "--studies", nowhere],
            ["campaign", "next", "--studies", nowhere],
            ["campaign", "simulate", "--studies", nowhere, "--truth", nowhere],
            ["score", nowhere],
            ["fine-tune", nowhere],
            ["train", str(tmp_path / "out")],
            ["train", str(tmp_path / "out"), "--studies", nowhere],
            ["predict", nowhere],
            ["evaluate", nowhere, nowhere],
        ],
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            SCRIPT,
            json.dumps([one for some in commands.values() for one in some]),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert [one for one in found if one[1]] == []
    codes = [code for code, some in commands.items() for _ in some]
    wrong = [one for one, code in zip(found, codes, strict=True) if min(one[2], 1) != code]
    assert wrong == []
    for arguments, _, code, said in found:
        if code:
            assert "nowhere" in said or "give one of" in said, arguments
    assert not (tmp_path / "out").exists()
