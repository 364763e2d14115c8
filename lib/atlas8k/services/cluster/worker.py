"""What one worker of a cluster does: look at a CT, predict it, return what is kept of it.

Nothing here knows of Ray, or of a store: a worker only reads.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from atlas8k.content import DECIDED_BY_PEOPLE
from atlas8k.core.errors import Atlas8kError, CheckpointError, ShortMemoryError
from atlas8k.core.remarks import Remark
from atlas8k.core.settings import Settings
from atlas8k.core.structure_sets import StructureSet
from atlas8k.core.structures import use


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
    """

    settings: Settings
    structures: StructureSet
    models: Path
    studies: Path
    model_version: str
    version: str


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
    """

    volume: str
    path: Path
    content: bytes | None = None
    check: bool = True


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
    why
        Where it failed, or is to be tried elsewhere.
    peak_mb
        Memory that the worker has taken at the most so far.
    """

    outcome: Literal["scored", "failed", "ask", "not_here", "other_networks", "short", "trouble"]
    scored: object = None
    remarks: tuple[Remark, ...] | None = None
    why: str = ""
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


class Worker:
    """Keeps the networks loaded and predicts one CT after the other.

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
        self._engine = Engine(settings, store)
        self._device = device(settings)

    def ready(self) -> str:
        """Return the host's name, once this worker is there.

        Raises
        ------
        CheckpointError
            The GPU that it was given does not answer: a processor in its place would be so
            slow that nobody should find it out at the end.
        """
        if self._gpu:
            import torch

            from atlas8k.models.resources import answers

            if not torch.cuda.is_available():
                raise CheckpointError(self._job.models, "PyTorch finds no GPU there any more")
            if not answers(torch.device(self._device)):
                raise CheckpointError(self._job.models, f"{self._device} does not answer there")
        return socket.gethostname()

    def score(self, task: Task) -> Result:
        """Predict one CT.

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
            if task.content is None and not task.path.is_file():
                result = Result("not_here")
            elif task.content is None:
                result = self._score(task, task.path)
            else:
                with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
                    path = Path(folder) / task.path.name
                    path.write_bytes(task.content)
                    result = self._score(task, path)
        except CheckpointError:
            raise
        except (MemoryError, ShortMemoryError) as err:
            result = Result("short", why=why_of(err))
        except OSError as err:
            result = Result("trouble", why=why_of(err))
        except FAILURES as err:
            result = Result("failed", why=why_of(err))
        return replace(result, seconds=time.monotonic() - started, peak_mb=self._engine.peak_mb())

    def _score(self, task: Task, path: Path) -> Result:
        from atlas8k.services.scored import Scored
        from atlas8k.services.studies.content import look_at

        remarks = None
        if self._job.settings.check_content and task.check:
            remarks = look_at(path)
            if any(one.kind in DECIDED_BY_PEOPLE for one in remarks):
                return Result("ask", remarks=remarks)
        grid, answers, model_version = self._engine.answers(path)
        if model_version != self._job.model_version:
            return Result("other_networks")
        return Result("scored", Scored.of(answers, grid, task.volume), remarks)
