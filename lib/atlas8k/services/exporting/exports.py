"""Exports that a server's page asks for: one at a time, each a process; and those that are there.

They go to a folder of their own beside the studies, or to the one of the setting `exports`.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import atlas8k
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.exporting.export import DATASHEET, MANIFEST, UNFINISHED, ExportSettings
from atlas8k.services.exporting.selection import name_fault

logger = logging.getLogger(__name__)

BESIDE = "-exports"
"""Behind the name of the studies folder."""
LONGEST = 64


class Finished(NamedTuple):
    """An export that is there; ``unfinished``: it was stopped, and goes on when asked for again."""

    name: str
    path: str
    unfinished: bool
    datasheet: bool


def _search_path() -> str:
    """Return where a process of ours finds this package, and what it would find without."""
    before = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [str(Path(atlas8k.__file__).parents[1]), before]))


@dataclass
class Running:
    """The export that runs, or that has run last.

    Attributes
    ----------
    done, total
        Volumes.
    error
        Why it ended without a result; empty: it did not.
    found
        What it has, once it has ended well.
    """

    name: str
    path: Path
    process: subprocess.Popen[str]
    done: int = 0
    total: int = 0
    error: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def runs(self) -> bool:
        """Whether it is at work, or its last words were not read yet."""
        return not self.ended.is_set()


class Exports:
    """Start exports of one studies folder, and say how they stand.

    Parameters
    ----------
    studies, ledger
        Of the campaign.
    folder
        Where exports go; None: beside the studies.
    patients
        Table of whose a volume is, which a split goes by.
    """

    def __init__(
        self,
        studies: Path,
        ledger: Path,
        folder: Path | None = None,
        patients: Path | None = None,
    ) -> None:
        self._studies, self._ledger, self._patients = studies, ledger, patients
        self.folder = folder or studies.with_name(studies.name + BESIDE)
        self._last: Running | None = None
        self._lock = threading.Lock()

    def start(self, name: str, settings: ExportSettings) -> Path:
        """Begin an export, or go on with it; return its folder.

        Raises
        ------
        RequestError
            The name is none that every file system takes.
        ConflictError
            An export runs, or is there under that name.
        """
        fault = name_fault(name) if len(name) <= LONGEST else f"has more than {LONGEST} letters"
        if fault or name.endswith(UNFINISHED):
            why = fault.partition(";")[0] or "is the name of an export that is not done"
            raise RequestError(f"{name}: {why}")
        with self._lock:
            if self._last is not None and self._last.runs:
                raise ConflictError(f"{self._last.name} is being exported; wait, or stop it")
            out = self.folder / name
            if out.exists():
                raise ConflictError(f"{out}: is there already; give another name")
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError as error:
                raise ConflictError(f"{self.folder}: cannot be written to ({error})") from error
            process = subprocess.Popen(
                [sys.executable, "-m", "atlas8k.services.exporting.job"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": _search_path()},
            )  # fmt: skip
            assert process.stdin is not None
            job = {
                "studies": str(self._studies), "ledger": str(self._ledger), "out": str(out),
                "settings": asdict(settings),
                "patients": str(self._patients) if self._patients else None,
            }  # fmt: skip
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            self._last = Running(name, out, process)
            threading.Thread(
                target=self._follow, args=(self._last,), name="export", daemon=True
            ).start()
        return out

    def _follow(self, one: Running) -> None:
        """Read what the process says until it ends."""
        assert one.process.stdout is not None
        for line in one.process.stdout:
            try:
                said = json.loads(line)
            except ValueError:  # a library's print
                logger.info("export %s: %s", one.name, line.rstrip())
                continue
            if "finished" in said:
                one.found = said["finished"]
            elif "error" in said:
                one.error = said["error"]
            else:
                one.done, one.total = said["done"], said["total"]
        one.process.wait()
        if not one.found and not one.error:
            one.error = (
                "was stopped; the same export goes on where it was"
                if one.stopped
                else f"ended with {one.process.returncode}; the same export goes on where it was"
            )
        if one.error:
            logger.warning("export %s: %s", one.name, one.error)
        one.ended.set()

    def stop(self) -> bool:
        """Stop the export that runs; False where none does. What is done stays."""
        with self._lock:
            one = self._last
            if one is None or not one.runs:
                return False
            one.stopped = True
            one.process.terminate()
            one.ended.wait()
            return True

    def close(self) -> None:
        """End with the server."""
        self.stop()

    def state(self) -> dict[str, Any]:
        """Return ``running``, ``text``, ``part`` (0 to 1), ``seconds_left``, ``datasheet``.

        The last is the name of the export that has ended and has one, else empty.
        """
        one = self._last
        now: dict[str, Any] = {"running": False, "part": None, "seconds_left": None,
                               "datasheet": ""}  # fmt: skip
        if one is None:
            return {**now, "text": "Nothing is being exported."}
        if one.runs:
            now |= {"running": True, "part": one.done / one.total if one.total else None}
            done = f"{one.done:,} of {one.total:,} volumes" if one.total else "begins"
            return {**now, "text": f"{one.name}: {done}"}
        if one.error:
            return {**now, "text": f"{one.name}: {one.error}"}
        found = one.found
        left = "".join(f"; left out, {n}: {why}" for why, n in found["left_out"].items())
        volumes, organs = found["volumes"], found["organs"]
        text = f"{volumes:,} volume{'s' * (volumes != 1)}, {organs:,} organ{'s' * (organs != 1)}"
        more = "".join(f"; {found[key]}" for key in ("not_compared", "unfinished") if found[key])
        text += f", in {one.path}{left}{more}"
        return {**now, "text": f"{one.name}: {text}", "datasheet": one.name}

    def finished(self) -> list[Finished]:
        """Return the exports that are there, by name."""
        found = []
        try:
            folders = sorted(one for one in self.folder.iterdir() if one.is_dir())
        except OSError:
            return []
        for one in folders:
            unfinished = one.name.endswith(UNFINISHED)
            if unfinished or (one / MANIFEST).is_file():
                name = one.name.removesuffix(UNFINISHED)
                found.append(Finished(name, str(one), unfinished, (one / DATASHEET).is_file()))
        return found

    def datasheet(self, name: str) -> Path:
        """Return the page that describes an export.

        Raises
        ------
        NotFoundError
            There is no such export, or it has none.
        """
        for one in self.finished():
            if one.name == name and one.datasheet and not one.unfinished:
                return Path(one.path) / DATASHEET
        raise NotFoundError("datasheet", name)
