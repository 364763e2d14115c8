"""Commands of the README files: all are understood, those of the front page run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.readme.commands import READMES, ROOT, commands

from atlas8k.cli import app

PLACES = ("/data/", "~/", "FOLDER", "supervised_", "nnUNet_results", "publish")
"""In commands that need what no test has: only understood, not run."""


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_is_understood(readme, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["atlas8k"])
    for words in commands(readme):
        command, context, rest = typer.main.get_command(app), None, words[1:]
        while hasattr(command, "commands") and rest and rest[0] in command.commands:
            command, rest = command.commands[rest[0]], rest[1:]
        if "--help" in rest:
            continue
        # Parsed as when it is typed: an unknown option, a missing or a surplus argument ends it.
        params = {one.name for one in command.params}
        context = command.make_context(" ".join(words), list(rest), parent=context)
        assert set(context.params) <= params, words


@pytest.mark.slow
def test_commands_of_the_front_page_run(tmp_path):
    shutil.copytree(ROOT / "apps", tmp_path / "apps", ignore=shutil.ignore_patterns("logs"))
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "lib"))

    def run(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"

    # What `make sample-data` does, with two CTs in place of twelve: those that are named.
    phantoms = "sample-datasets/phantoms"
    for seed in ("0", "8"):
        made = ("--count", "1", "--seed", seed, "--setting", "wide")
        run("atlas8k", "phantoms", phantoms, *made, "--labels", f"{phantoms}-truth")
    ran = 0
    for words in commands(ROOT / "README.md"):
        if not any(place in word for word in words for place in PLACES):
            run(*words)
            ran += 1
    assert ran >= 6
    for made in ("look.png", "label.nii.gz", "label.png", "label.json"):
        assert (Path(tmp_path) / made).stat().st_size > 0
