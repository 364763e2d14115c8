"""8,448 volumes exported with links: memory flat, killed in the middle, gone on with.

CTs and labels are small, so that the work is that of the files' number. A third of the volumes is
confirmed, a third has a public liver, a third is predicted. ``cpu_seconds`` is what it takes of a
core, both runs, however busy the machine is. No peer: MONAI Label exports nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.exporting.export import ExportSettings, export
from atlas8k.services.exporting.selection import select
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Holder, OrganSource

SHAPE = (20, 16, 12)
GRID = Grid(SHAPE, np.diag([-8.0, 8.0, 10.0, 1.0]))
INFO = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]
SETTINGS = ExportSettings(layout="abdomenatlas", require="any", cts="link")


def make(folder: Path, count: int) -> Path:
    """A studies folder with labels of every kind."""
    studies = folder / "studies"
    studies.mkdir()
    voxels = np.random.default_rng(0).integers(-99, 99, SHAPE).astype(np.int16)
    ct = write_nifti(folder / "ct.nii.gz", voxels, GRID)
    names = [f"BDMAP_{number:08d}" for number in range(count)]
    for name in names:
        shutil.copy(ct, studies / f"{name}.nii.gz")
    draft = np.zeros(SHAPE, np.uint8)
    for number in ORGAN_IDS.values():
        draft[2 * number : 2 * number + 2, 4:10, 3:8] = number
    sent = write_nifti(folder / "sent.nii.gz", draft, GRID)
    params = {
        "label_info": INFO,
        "looked_at": list(ORGAN_NAMES),
        "volume_is_right": list(ORGAN_NAMES),
    }
    with closing(LabelService.open(studies)) as service:
        service.ledger.register_model_version("m0")
        for number, name in enumerate(names):
            service.keep_pseudo(name, draft, GRID, {"model_version": "m0"})
            if number % 3 == 0:
                service.submit(name, sent, Holder.identify(user="anna"), params)
            elif number % 3 == 1:
                liver = {"liver": OrganSource("public", "present", "BTCV")}
                service.keep_public(name, draft, GRID, liver)
    return studies


def written(studies: Path, out: Path, kill_after: int | None = None) -> dict[str, float]:
    """Export; return how many volumes were there before, and how memory grew."""
    memory: list[int] = []

    def watched(items: Iterable[object]) -> Iterator[object]:
        for number, item in enumerate(items):
            if number == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            if number % 50 == 0:
                memory.append(psutil.Process().memory_info().rss)
            yield item

    with closing(LabelService.open(studies)) as service:
        chosen = select(service.folder, SETTINGS.require)
        done = export(service.folder, out, SETTINGS, chosen, progress=watched)
    tenth = memory[len(memory) // 10]
    return {
        "volumes": done.volumes,
        "kept": done.kept,
        "grown_mb": round((max(memory) - tenth) / 1e6, 1),
    }


def main() -> None:
    """Print how long it takes and what it needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=8448)
    options = parse(parser, {"volumes": 60})
    with tempfile.TemporaryDirectory(prefix="atlas8k-export-") as scratch:
        folder = Path(scratch)
        studies = make(folder, options.volumes)
        made = time.process_time()
        out = folder / "out"
        started = time.perf_counter()
        child = os.fork()
        if not child:
            written(studies, out, kill_after=options.volumes // 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert not out.exists()
        figures = written(studies, out)
        own, killed = (
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        cpu = own.ru_utime + own.ru_stime + killed.ru_utime + killed.ru_stime
        figures["cpu_seconds"] = round(cpu - made, 1)
        figures["seconds"] = round(time.perf_counter() - started, 1)
        figures["files"] = sum(len(files) for _, _, files in os.walk(out))
    report("export_scale", figures, options)


if __name__ == "__main__":
    main()
