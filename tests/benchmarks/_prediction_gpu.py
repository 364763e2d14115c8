"""Full-size networks on a GPU: one CT after another, and a folder scored as the server does it."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from atlas8k.core.settings import Settings
from atlas8k.core.volume import read_ct, read_grid
from atlas8k.models.checkpoint import Checkpoint, save_checkpoint
from atlas8k.models.predict import Predictor
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring
from atlas8k.store import Progress

ROOT = Path(__file__).resolve().parents[2]
CUDA_TESTS = (
    "tests/models/test_attention_on_device.py",
    "tests/server/test_device_lock.py",
    "tests/server/test_lost_gpu.py",
)
CTS = 10
WARM = 2
"""CTs before the clock starts: networks are loaded, cuDNN has chosen its ways."""


def on_gpu(
    networks: Mapping[str, Checkpoint],
    folder: Path,
    repeats: int,
    once: Callable[[Predictor, Path, Path], dict[str, float]],
    device: str = "cuda",
) -> dict[str, Any]:
    """Microseconds a cubic millimetre, memory, how busy the GPU is, and labels beside a CPU's.

    Parameters
    ----------
    folder
        With ``usual.nii.gz`` and ``small.nii.gz``.
    once
        Predicts a CT from file to file; seconds of its parts.
    """
    import torch

    usual, small, out = folder / "usual.nii.gz", folder / "small.nii.gz", folder / "gpu.nii.gz"
    grid = read_grid(usual)
    mm3 = grid.voxel_ml * 1000 * grid.shape[0] * grid.shape[1] * grid.shape[2]
    figures: dict[str, Any] = {"gpu_name": device}
    predictor = Predictor(networks, device=device)
    for _ in range(WARM):
        once(predictor, usual, out)
    runs = [once(predictor, usual, out) for _ in range(repeats)]
    figures["gpu_us_per_mm3"] = min(sum(run.values()) for run in runs) * 1e6 / mm3
    ct = read_ct(small)
    ours = predictor.predict(ct).label_on(ct.grid)
    del predictor
    theirs = Predictor(networks).predict(ct).label_on(ct.grid)
    figures["gpu_same_as_cpu"] = float(np.mean(ours == theirs))
    seconds, busy = scored(networks, folder, device)
    figures["gpu_scoring_us_per_mm3"] = seconds * 1e6 / mm3
    if busy:
        figures["gpu_busy"] = float(np.mean(busy)) / 100
    if device.startswith("cuda"):
        figures["gpu_tests_passed"] = cuda_tests()
        figures["gpu_name"] = torch.cuda.get_device_name()
        figures["gpu_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return figures


def cuda_tests() -> int:
    """Return how many of the tests that use a GPU where there is one pass.

    Raises
    ------
    RuntimeError
        One fails.
    """
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CUDA_TESTS]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode or not passed:
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-1000:])
    return int(passed[1])


def scored(
    networks: Mapping[str, Checkpoint], folder: Path, device: str
) -> tuple[float, list[float]]:
    """Seconds a CT of a folder that is scored, and the GPU's use meanwhile, per cent."""
    studies, models = folder / "gpu-studies", folder / "gpu-model"
    studies.mkdir()
    for name, checkpoint in networks.items():
        save_checkpoint(models / "embedded" / f"{name}.safetensors", checkpoint)
    for number in range(WARM + CTS):
        shutil.copy(folder / "usual.nii.gz", studies / f"ct_{number:02d}.nii.gz")
    at: list[float] = []
    marks: list[int] = []
    # The phantom is what it is; this asks nobody whether it is an abdomen.
    settings = Settings(device=device, check_content=False)
    context = open_context(settings, str(studies), models)
    try:
        with sampled_use() as use:

            def report(progress: Progress, seconds_each: float, left: int) -> None:
                at.append(time.perf_counter())
                marks.append(len(use))

            counts = Scoring(context, report).run()
            assert counts["scored"] == WARM + CTS, counts
    finally:
        context.close()
    return (at[-1] - at[WARM - 1]) / CTS, list(use[marks[WARM - 1] : marks[-1]])


@contextmanager
def sampled_use(every_ms: int = 100) -> Iterator[list[float]]:
    """Append to the list, as long as the block runs, what the driver says of the GPU's use."""
    import threading

    found: list[float] = []
    if shutil.which("nvidia-smi") is None:
        yield found
        return
    command = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", f"--loop-ms={every_ms}"]
    with subprocess.Popen(
        [*command, "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, text=True
    ) as process:

        def collect() -> None:
            for line in itertools.takewhile(bool, iter(process.stdout.readline, "")):  # type: ignore[union-attr]
                if line.strip().isdigit():
                    found.append(float(line))

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            process.kill()
            thread.join(10)
