"""What a killed server left in the temporary folder is gone with the next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from atlas8k.services.temporary import PREFIX, TemporaryFolder, remove_left

SERVER = """
import os, sys, tempfile
from pathlib import Path
from atlas8k.services.temporary import TemporaryFolder
own = TemporaryFolder(Path(sys.argv[1]))
open(tempfile.mkstemp(prefix="atlas8k-")[1], "w").write("half an upload")
print(own.path, os.environ["TMPDIR"], flush=True)
sys.stdin.read()
"""


def start(root: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    path, variable = process.stdout.readline().split()
    assert path == variable
    return process, Path(path)


def test_what_a_killed_one_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    killed, left = start(tmp_path)
    living, there = start(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    assert len(list(left.iterdir())) == 2
    before = tempfile.gettempdir()
    own = TemporaryFolder(tmp_path)
    assert own.removed == 1
    assert not left.exists()
    assert len(list(there.iterdir())) == 2
    assert (tmp_path / "elsewhere" / "precious").exists()
    assert (tmp_path / f"{PREFIX}file").exists()
    with tempfile.NamedTemporaryFile() as made:
        assert Path(made.name).parent == own.path
    own.close()
    assert not own.path.exists()
    assert tempfile.gettempdir() == before
    assert os.environ.get("TMPDIR") != str(own.path)
    living.communicate()
    assert remove_left(tmp_path) == 1
