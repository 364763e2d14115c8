"""What one worker of a cluster does: look at a CT, predict it, return what is kept of it.

Nothing here knows of Ray, or of a store: a worker only reads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from atlas8k.content import DECIDED_BY_PEOPLE, inspect_content
from atlas8k.core.errors import Atlas8kError, CheckpointError, ShortMemoryError
from atlas8k.core.remarks import Remark
from atlas8k.core.settings import Settings
from atlas8k.core.structure_sets import StructureSet
from atlas8k.core.structures import use
from atlas8k.core.volume import read_ct
from atlas8k.services.device_lock import DeviceLock, Turn, machine
from atlas8k.services.failures import Blame, blame_of
from atlas8k.services.studies.served import file_fingerprint

if TYPE_CHECKING:
    from atlas8k.services.prediction.engine import ReadCT


@dataclass(frozen=True)
class Job:
    """What all workers of a run are given.

    Attributes
    ----------
    models
        Folder of the checkpoints, as the node sees it.
    studies
        Folder of the CTs; where a node does not see it, CTs are sent.
    version
        Of this package.
    locks, machine
        Where the server's processes wait for each other's GPU, and the machine that this is on:
        the driver's, since the store is there.
    """

    settings: Settings
    structures: StructureSet
    models: Path
    studies: Path
    model_version: str
    version: str
    locks: Path
    machine: str


@dataclass(frozen=True)
class Task:
    """One volume to predict.

    Attributes
    ----------
    path
        File of the CT.
    content
        The file itself, where the node does not see the path.
    check
        Look whether it is an abdominal CT that people would want.
    fingerprint
        Of the file.
    """

    volume: str
    path: Path
    content: bytes | None = None
    check: bool = True
    fingerprint: str = ""

    @property
    def key(self) -> Task:
        """The task without the file."""
        return replace(self, content=None)


@dataclass(frozen=True)
class Result:
    """What became of a task.

    Attributes
    ----------
    outcome
        ``ask``: `remarks` are something for people to decide, and nothing was predicted.
        ``not_here``: the node does not see the CT.
        ``short``: memory is short, which it may not be elsewhere. ``trouble``: the node cannot
        read or write.
    scored
        A :class:`~atlas8k.services.scored.Scored`, where the outcome is ``scored``.
    why, blame
        Where it failed, or is to be tried elsewhere, and the network that did.
    peak_mb
        Memory that the worker has taken at the most so far.
    """

    outcome: Literal["scored", "failed", "ask", "not_here", "other_networks", "short", "trouble"]
    scored: object = None
    remarks: tuple[Remark, ...] | None = None
    why: str = ""
    blame: Blame | None = None
    seconds: float = 0.0
    peak_mb: Mapping[str, float] | None = None


@dataclass(frozen=True)
class NodeReport:
    """What a node says of itself before it is given work.

    Attributes
    ----------
    trouble
        Why it cannot work; empty where it can.
    sees_studies
        Whether the CTs' folder is there.
    """

    host: str
    trouble: str
    sees_studies: bool


def report(job: Job) -> NodeReport:
    """Look whether this node can work on a job: the package, the networks, the CTs."""
    return NodeReport(socket.gethostname(), _trouble(job), job.studies.is_dir())


def _trouble(job: Job) -> str:
    from atlas8k.models.store import ModelStore
    from atlas8k.services.prediction.engine import attention_settings

    if (here := package_version()) != job.version:
        return f"has atlas8k {here}, and {job.version} is wanted"
    try:
        served = ModelStore(job.models, attention_settings(job.settings)).served()
    except Atlas8kError as err:
        return f"cannot load the networks: {err}"
    if served.model_version != job.model_version:
        return (
            f"has the networks {served.model_version} in {job.models}, and {job.model_version} "
            "are wanted"
        )
    return ""


def package_version() -> str:
    """Return the version of this package and of the Python that runs it."""
    return f"{version('atlas8k')} on Python {sys.version_info.major}.{sys.version_info.minor}"


class _Read(NamedTuple):
    """A CT, and what there is to say of it."""

    ct: ReadCT
    remarks: tuple[Remark, ...] | None


def read_only(path: Path) -> ReadCT:
    """Read a CT; what networks take of it is made one after the other, for less memory."""
    from atlas8k.services.prediction.engine import ReadCT

    return ReadCT(read_ct(path), file_fingerprint(path), None)


class Worker:
    """Keeps the networks loaded and predicts one CT after the other.

    One more CT is read meanwhile, where the driver says which comes next. It is the worker's
    only once it is given to it: another worker may take it before, and nothing is lost with
    a worker that dies but the volume that it was at.

    Parameters
    ----------
    threads
        Of the processor, for this worker.
    gpu
        It was given a GPU, or a share of one.
    """

    def __init__(self, job: Job, threads: int, gpu: bool = False) -> None:
        import torch

        from atlas8k.models.store import ModelStore
        from atlas8k.services.prediction.engine import Engine, attention_settings, device

        use(job.structures)
        torch.set_num_threads(threads)
        self._job, self._gpu = job, gpu
        store = ModelStore(job.models, attention_settings(job.settings))
        settings = job.settings
        if gpu and settings.device.startswith("cuda:"):
            # Ray shows a worker its own GPU only, which is the first there.
            settings = settings.model_copy(update={"device": "cuda"})
        self._device = device(settings)
        # Not beside the server's inference, nor another worker, on the same GPU; elsewhere, or
        # where the server's locks are not to be had, these are the workers of one user.
        lock = DeviceLock(job.locks, self._device)
        if gpu and (job.machine != machine() or not lock.turn(Turn.SCORING).usable()):
            locks = Path(tempfile.gettempdir()) / f"atlas8k-device-{os.getuid()}"
            lock = DeviceLock(locks, self._device)
        self._engine = Engine(settings, store, lock if gpu else None)
        self._reader = ThreadPoolExecutor(1, "read-ahead", torch.set_num_threads, (threads,))
        self._ahead: tuple[Task, Future[_Read]] | None = None

    def ready(self) -> str:
        """Return the host's name, once this worker is there with its networks loaded.

        Raises
        ------
        CheckpointError
            A network cannot be loaded, or the GPU that it was given does not answer: a
            processor in its place would be so slow that nobody should find it out at the end.
        """
        if self._gpu:
            import torch

            from atlas8k.models.resources import answers

            if not torch.cuda.is_available():
                raise CheckpointError(self._job.models, "PyTorch finds no GPU there any more")
            if not answers(torch.device(self._device)):
                raise CheckpointError(self._job.models, f"{self._device} does not answer there")
        self._engine.load()  # no volume's seconds, from which runs are planned, hold it
        return socket.gethostname()

    def score(self, task: Task, ahead: Task | None = None) -> Result:
        """Predict one CT.

        Parameters
        ----------
        ahead
            Read this one meanwhile: it may be the next. Once it is given as `task`, it needs
            no content.

        Raises
        ------
        CheckpointError
            A network cannot be loaded: nothing is wrong with the volume.
        DeviceLostError
            The GPU does not answer this worker any more; another may be begun.
        """
        from atlas8k.services.scoring import FAILURES, why_of

        started = time.monotonic()
        try:
            reading = self._begun(task)
            if ahead is not None and (ahead.content is not None or ahead.path.is_file()):
                self._ahead = ahead.key, self._reader.submit(self._read, ahead, self._engine.read)
            if reading is None and task.content is None and not task.path.is_file():
                result = Result("not_here")
            else:
                result = self._score(task, reading)
        except CheckpointError:
            raise
        except (MemoryError, ShortMemoryError) as err:
            result = Result("short", why=why_of(err), blame=blame_of(err))
        except OSError as err:
            result = Result("trouble", why=why_of(err))
        except FAILURES as err:
            result = Result("failed", why=why_of(err), blame=blame_of(err))
        # What was read beside another's prediction cost no time of its own.
        return replace(result, seconds=time.monotonic() - started, peak_mb=self._engine.peak_mb())

    def _begun(self, task: Task) -> Future[_Read] | None:
        """Return the reading of a CT that was begun; of any other nothing is kept."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        known, reading = ahead
        if known == task.key:
            return reading
        reading.cancel()
        return None

    def _read(self, task: Task, read: Callable[[Path], ReadCT] = read_only) -> _Read:
        """Have a CT in memory, and nothing needs its file any more."""
        with contextlib.ExitStack() as opened:
            path = task.path
            if task.content is not None:
                folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="atlas8k-"))
                path = Path(folder) / task.path.name
                path.write_bytes(task.content)
            found = read(path)
        check = self._job.settings.check_content and task.check
        remarks = inspect_content(found.ct) if check else None
        return _Read(found, remarks)

    def _score(self, task: Task, reading: Future[_Read] | None) -> Result:
        from atlas8k.services.scored import Scored

        read = self._read(task) if reading is None else reading.result()
        if any(one.kind in DECIDED_BY_PEOPLE for one in read.remarks or ()):
            return Result("ask", remarks=read.remarks)
        grid, answers, model_version = self._engine.begin_answers(
            task.path, Turn.SCORING, read=read.ct
        )()
        if model_version != self._job.model_version:
            return Result("other_networks")
        return Result("scored", Scored.of(answers, grid, task.volume), read.remarks)
