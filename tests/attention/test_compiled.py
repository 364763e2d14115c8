"""Where compiled kernels are kept, and that importing the package compiles nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

LIB = Path(__file__).parents[2] / "lib"

ADD = """
from atlas8k.attention.compiled import compiled

@compiled
def double(x):
    return x + x
"""


def run(code: str, **environment: str) -> str:
    env = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def package(folder: Path) -> Path:
    """The decorator, installed elsewhere, and a module with a kernel beside it."""
    (folder / "atlas8k" / "attention").mkdir(parents=True)
    for name in ("atlas8k/__init__.py", "atlas8k/attention/__init__.py"):
        (folder / name).write_text("")
    shutil.copy(LIB / "atlas8k/attention/compiled.py", folder / "atlas8k/attention")
    (folder / "kernel_to_keep.py").write_text(ADD)
    return folder


def test_importing_loads_no_numba_and_no_torch() -> None:
    out = run(
        "import sys, atlas8k.attention; "
        "print([m for m in ('numba', 'torch', 'monai', 'cc3d') if m in sys.modules])",
        PYTHONPATH=str(LIB),
    )
    assert out.strip() in ("[]", "['cc3d']")


USE = "import kernel_to_keep as k; k.double(2.0); print(sum(k.double.stats.cache_hits.values()))"


def test_a_second_process_does_not_compile_again(tmp_path) -> None:
    path = str(package(tmp_path / "site"))
    assert run(USE, PYTHONPATH=path, HOME=str(tmp_path)).strip() == "0"
    assert run(USE, PYTHONPATH=path, HOME=str(tmp_path)).strip() == "1"


def test_a_folder_that_cannot_be_written_falls_back_to_the_users_cache(tmp_path) -> None:
    path = package(tmp_path / "site")
    # A file where the cache folder would be made stops even an administrator.
    (path / "__pycache__").write_text("")
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert run(USE, PYTHONPATH=str(path), **home).strip() == "0"
    assert run(USE, PYTHONPATH=str(path), **home).strip() == "1"


def test_without_any_folder_the_kernel_still_works(tmp_path) -> None:
    path = package(tmp_path / "site")
    (path / "__pycache__").write_text("")
    (tmp_path / "blocked").write_text("")
    home = {"HOME": str(tmp_path / "blocked"), "XDG_CACHE_HOME": str(tmp_path / "blocked")}
    out = run("import kernel_to_keep as k; print(k.double(2.0))", PYTHONPATH=str(path), **home)
    assert out.strip() == "4.0"
