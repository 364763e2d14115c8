"""`atlas8k export` as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.services.exporting.kit import files, mixed


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "atlas8k", "export", *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_export_frozen_and_again(tmp_path: Path):
    mixed(tmp_path).service.close()
    studies, out = tmp_path / "studies", tmp_path / "out"
    done = run(out, "--studies", studies, "--layout", "nnunet", "--cts", "link", "--frozen")
    assert done.returncode == 0, done.stderr
    assert "2 volumes, 10 organs" in done.stdout
    assert "left out, 1 volumes" not in done.stdout
    assert "predicted, and not assessed" in done.stdout
    done = run(out, "--studies", studies)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    done = run(tmp_path / "more", "--studies", studies, "--again", out)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "more") == files(out)
    done = run(tmp_path / "third", "--studies", studies, "--rename", "a b")
    assert done.returncode == 2
    done = run(tmp_path / "third", "--studies", "http://localhost:1/dicom-web")
    assert "is a DICOM archive" in done.stderr
