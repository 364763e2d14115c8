"""Label files altered, deleted, flipped and copied: how long until all are found and mended.

A studies folder of 1,000 volumes, each with a pseudo label and a submission that went the way of
every submission; CTs and labels are small, so that the time is that of the files' number. No
peer: MONAI Label keeps no hashes. What is found and what is left is checked, not only timed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.backups.make import make_backup
from atlas8k.services.backups.place import Place
from atlas8k.services.backups.restore import restore_backup
from atlas8k.services.labels.integrity import LabelIntegrity
from atlas8k.services.labels.label_watch import LabelWatch
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Holder, locate

SHAPE = (24, 20, 16)
GRID = Grid(SHAPE, np.diag([-8.0, 8.0, 10.0, 1.0]))
INFO = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]
TAGS = ("final", "original", "pseudo")
WHO = [Holder.identify(user=name) for name in ("anna", "ben", "cem")]


def make(folder: Path, count: int) -> Path:
    """A studies folder whose volumes all have a submission."""
    studies = folder / "studies"
    studies.mkdir()
    rng = np.random.default_rng(0)
    ct = write_nifti(folder / "ct.nii.gz", rng.integers(-99, 99, SHAPE).astype(np.int16), GRID)
    names = [f"case_{number:04d}" for number in range(count)]
    for name in names:
        shutil.copy(ct, studies / f"{name}.nii.gz")
    draft = np.zeros(SHAPE, np.uint8)
    draft[2:8, 2:8, 2:12], draft[12:20, 4:12, 3:10] = 5, 8
    with closing(LabelService.open(studies)) as service:
        service.ledger.register_model_version("m0")
        for number, name in enumerate(names):
            service.keep_pseudo(name, draft, GRID, {"model_version": "m0"})
            array = draft.copy()
            array[8, 2:8, 2 : 3 + number % 9] = 5
            array[20, 4 + number // 9 % 8, number // 72 % 16] = 8
            sent = write_nifti(folder / "sent.nii.gz", array, GRID)
            service.submit(name, sent, WHO[number % 3], {"label_info": INFO})
    return studies


def flip(path: Path) -> None:
    """Alter one bit and nothing else: neither size nor time of change."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with open(path, "r+b") as stream:
        stream.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def damage(studies: Path) -> dict[str, int]:
    """Alter files of every tenth volume in each way; return how many of each."""
    labels = studies / "labels"
    names = sorted(path.name for path in (labels / "final").iterdir())
    kept = [
        next((labels / ".history" / "final" / n.removesuffix(".nii.gz")).iterdir()) for n in names
    ]
    for path in (labels / "final" / name for name in names[0::10]):
        with open(path, "ab") as stream:
            stream.write(b"saved in place")
    for path in (labels / "final" / name for name in names[1::10]):
        path.unlink()
    for path in (labels / "pseudo" / name for name in names[2::10]):
        flip(path)
    for path in kept[3::10]:
        flip(path)
    for path in kept[4::10]:
        path.unlink()
    shutil.rmtree(labels / "original")
    return {
        "edited in place": len(names[0::10]),
        "deleted": len(names[1::10]) + len(kept[4::10]) + len(names),
        "flipped": len(names[2::10]) + len(kept[3::10]),
    }


def told(studies: Path) -> dict[str, Any]:
    """What clients and the store say of every label."""
    with closing(LabelService.open(studies)) as service:
        return {
            name: (
                [service.folder.known_label(name, tag).info for tag in TAGS],
                service.ledger.sources(name),
                [(one.id, one.sha256) for one in service.ledger.submissions(name)],
            )
            for name in service.folder.now().ids()
        }


@contextmanager
def timed(figures: dict[str, Any], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    figures[f"{name}_s"] = round(time.perf_counter() - started, 2)
    print(f"{name:28} {figures[f'{name}_s']:8.2f} s", flush=True)


def check(studies: Path, expected: int = 0) -> None:
    """Hold all files against their hashes, and mend them."""
    with closing(LabelService.open(studies)) as service:
        integrity = LabelIntegrity(service.folder)
        found = list(integrity.check(integrity.volumes(), mend=True))
        assert len(found) == expected, (len(found), expected, found[:3])
        assert all(one.mended for one in found), [one.text for one in found if not one.mended][:3]


def look(studies: Path, expected: int) -> None:
    """The look of a server, which opens no file that seems to be as it was."""
    with closing(LabelService.open(studies)) as service:
        watch = LabelWatch(service.folder, 0, settle_s=0, bytes_per_s=1e12)
        watch.look()
        assert watch.status()["count"] == 0
        assert len(watch.integrity.set_aside.listed()) == expected


def main() -> None:
    """Print how long each takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=1000)
    options = parse(parser, {"volumes": 30})
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="atlas8k-label-files-") as scratch:
        folder = Path(scratch)
        with timed(figures, "submissions"):
            studies = make(folder, options.volumes)
        before = told(studies)
        with timed(figures, "check"):
            check(studies)
        done = damage(studies)
        with timed(figures, "found_and_mended"):
            check(studies, sum(done.values()))
        with timed(figures, "look"):
            look(studies, done["edited in place"] + done["flipped"])
        assert told(studies) == before
        copies: dict[str, Callable[[Path], object]] = {
            "cp_a": lambda to: subprocess.run(["cp", "-a", studies, to], check=True),
            "cp_r": lambda to: subprocess.run(["cp", "-r", studies, to], check=True),
        }
        if shutil.which("rsync"):
            copies["rsync_a"] = lambda to: subprocess.run(
                ["rsync", "-a", f"{studies}/", to], check=True
            )
        for name, copy in copies.items():
            other = folder / name
            with timed(figures, f"{name}_copy"):
                copy(other)
            with timed(figures, f"{name}_check"):
                check(other)
            assert told(other) == before
            shutil.rmtree(other)
        models, target = folder / "model", folder / "backups"
        place = Place.of(str(studies), None, models, models)
        with timed(figures, "backup"):
            made = make_backup(target, place)
        with timed(figures, "backup_again"):
            assert make_backup(target, place).copied == 1  # the ledger
        other = folder / "restored"
        with timed(figures, "restore"):
            restored = restore_backup(target, Place.of(str(other), None, models, models))
        assert not made.backup.damaged
        assert not restored.damaged
        for path in studies.glob("*.nii.gz"):
            shutil.copy(path, other)
        with timed(figures, "restored_check"):
            check(other)
        assert told(other) == before
        figures |= {"volumes": options.volumes, "altered": sum(done.values()), "left": 0}
        figures["ledger_mb"] = round(locate(str(studies)).stat().st_size / 1e6, 1)
    report("label_files", figures, options)


if __name__ == "__main__":
    main()
