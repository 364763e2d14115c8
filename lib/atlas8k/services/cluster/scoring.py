"""The driver: hands volumes to workers, keeps what they return, goes on where some die."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from atlas8k.core.errors import CheckpointError, DeviceLostError, UnreadableVolumeError
from atlas8k.core.structures import in_use
from atlas8k.services.cluster.nodes import ANSWER_S, Node, Nodes, pinned, words
from atlas8k.services.cluster.troubles import MOST, Troubles
from atlas8k.services.cluster.worker import Job, Result, Task, Worker, package_version
from atlas8k.services.context import Context
from atlas8k.services.device_lock import machine
from atlas8k.services.errors import ConflictError
from atlas8k.services.failures import IN_A_ROW, SHORT, Blame, Failures, blame_of
from atlas8k.services.scored import Scored
from atlas8k.services.scoring import FAILURES, image_of, why_of
from atlas8k.services.studies.served import file_fingerprint

logger = logging.getLogger(__name__)

MOST_RESTARTS = 3
"""So often in a row a worker is begun again, without a volume in between that is to blame."""
LOOK_S = 10.0
"""So often it is looked for nodes that have joined."""
WRITERS = 2
"""Threads that write labels; compressing lets others run."""
FETCHERS = 4
"""Threads that fetch CTs from an archive."""
AHEAD = 8
"""CTs that are fetched before a worker can take them."""
START_S = 300.0
"""A worker that has not loaded its networks in this time is given up."""
SLOW_S, SLOW_TIMES = 300.0, 10.0
"""A volume that takes more than both this and so many times the median is named in the log."""
STUCK_TIMES = 3.0
"""After so many times that limit its worker is ended."""
ENOUGH = 5
"""Volumes whose median says that one is stuck."""
DIED = (
    "the worker that predicted it died; the volume may want more memory than there is, or be "
    "damaged"
)

LOST = (
    "the GPU of the worker that predicted it did not answer any more; the CT may have done that, "
    "or the GPU"
)
GONE = "two nodes went away that predicted it. `atlas8k score --retry` tries again"
DEATH = Blame("each worker", SHORT)
"""Networks may want more memory than there is at any CT: the system ends the worker."""

Given = tuple[Task, str, Result]
"""What a worker was given, the fingerprint of that file, what it returned."""


@dataclass(eq=False)
class _Slot:
    """A place for a worker on a node, and what the worker there does."""

    node: Node
    actor: Any = None
    waits_for: Any = None
    """What Ray has promised: that the worker is there, or a result."""
    task: Task | None = None
    ahead: Task | None = None
    """What the worker reads meanwhile. Its volume is still to be done: any worker may take it."""
    suspect: Task | None = None
    """What the worker before was at when it died."""
    why: str = ""
    """How it died."""
    restarts: int = 0
    since: float = field(default_factory=time.monotonic)
    """It was begun, or given its task."""
    named: bool = False
    """Its task was named as slow."""

    @property
    def key(self) -> str:
        """Of the node."""
        return self.node.key


class Cluster:
    """Workers on every node of a cluster, as :class:`~atlas8k.services.scoring.Workers`.

    Parameters
    ----------
    ray
        The module, connected.
    workers
        On each node; 0: one for each GPU, or for every four processors.
    kind
        Of worker.
    ahead
        Workers read the next CT while they predict; by default those with a GPU, since a
        processor has to do all of it one after the other anyway.
    """

    def __init__(
        self,
        context: Context,
        ray: Any,
        models: Path,
        workers: int = 0,
        kind: type[Worker] = Worker,
        ahead: bool | None = None,
    ) -> None:
        self._context, self._ray, self._workers, self._kind = context, ray, workers, kind
        self._ahead = ahead
        self._models = (context.settings.models or models).resolve()

    def outcomes(self, todo: Sequence[str], model_version: str) -> Iterator[str | None]:
        """Predict volumes on the cluster; see :class:`~atlas8k.services.scoring.Workers`.

        Raises
        ------
        CheckpointError
            No node can work, or none is left; a network fails at every CT.
        OSError
            Results cannot be kept, as on a disk that is full; no volume counts as failed.
        """
        job = Job(
            self._context.settings,
            in_use(),
            self._models,
            self._context.studies.path.resolve(),
            model_version,
            package_version(),
            self._context.state.resolve() / "device",
            machine(),
        )
        actor = self._ray.remote(self._kind)
        run = _Run(self._context, self._ray, actor, job, self._workers, todo, self._ahead)
        yield from run.outcomes()


class _Run:
    """One pass over a list of volumes under one model version."""

    def __init__(
        self,
        context: Context,
        ray: Any,
        actor: Any,
        job: Job,
        workers: int,
        todo: Sequence[str],
        ahead: bool | None,
    ) -> None:
        self._context, self._ray, self._job, self._ahead = context, ray, job, ahead
        # The largest first: what is left for the end is small, and no worker waits long.
        self._todo = deque(sorted(todo, key=context.studies.size, reverse=True))
        self._place = {volume: place for place, volume in enumerate(self._todo)}
        self._fetched: dict[str, Future[Path]] = {}
        self._fetchers = ThreadPoolExecutor(FETCHERS, "fetch-ahead")
        self._ended = threading.Event()
        self._unchecked: set[str] = set()
        self._sent: set[str] = set()
        self._troubles = Troubles()
        self._failures = Failures(context, job.model_version)
        self._taken_along: set[str] = set()
        """Volumes that a node went away with."""
        self._given_up: list[Given] = []
        self._seconds: list[float] = []
        self._slots: list[_Slot] = []
        self._nodes = Nodes(ray, job, workers)
        self._asked_at = 0.0
        self._actor = actor
        self._job_there = ray.put(job)
        self._others = False

    def outcomes(self) -> Iterator[str | None]:
        kept: set[Future[str | None]] = set()
        try:
            with ThreadPoolExecutor(WRITERS, "keep-scored") as writers:
                while self._todo or kept or self._busy():
                    self._look_for_nodes()
                    yield from self._hand_out()
                    for result in self._returned():
                        kept.add(writers.submit(self._keep, *result))
                    finished = {one for one in kept if one.done()}
                    kept -= finished
                    while len(kept) > 2 * WRITERS:  # the store is slower than the workers
                        first = next(iter(kept))
                        first.exception()
                        finished.add(first)
                        kept.discard(first)
                    yield from (outcome for one in finished if (outcome := one.result()))
                    if self._others:
                        break
                yield from (outcome for one in kept if (outcome := one.result()))
                if not self._others:
                    self._failures.settle()
        finally:
            self._ended.set()
            self._fetchers.shutdown(wait=False, cancel_futures=True)
            for slot in self._slots:
                self._end(slot)
        if self._others:
            yield None

    def _busy(self) -> bool:
        return any(slot.task or slot.suspect for slot in self._slots)

    # --- workers ------------------------------------------------------------------------

    def _look_for_nodes(self) -> None:
        if not self._slots or time.monotonic() > self._asked_at + LOOK_S:
            self._asked_at = time.monotonic()
            self._nodes.ask()
        # Nobody who has work waits for a node.
        for node in self._nodes.answered(0 if self._slots else ANSWER_S):
            logger.info(
                "node %s: %d workers of %d threads%s",
                *(node.host, node.workers, node.threads, _gpu(node.gpus)),
            )
            for _ in range(node.workers):
                slot = _Slot(node)
                self._slots.append(slot)
                self._start(slot)
        if not self._slots:
            raise CheckpointError(
                self._job.models,
                "no node of the cluster can work, or none is left; the reasons are in the log. "
                "What is scored is kept: begin again",
            )

    def _start(self, slot: _Slot) -> None:
        node = slot.node
        slot.actor = self._actor.options(
            scheduling_strategy=pinned(self._ray, node.key),
            num_cpus=node.threads,
            num_gpus=node.gpus,
            max_restarts=0,
        ).remote(self._job_there, node.threads, node.gpus > 0)
        slot.waits_for, slot.task, slot.ahead = slot.actor.ready.remote(), None, None
        slot.since = time.monotonic()

    def _end(self, slot: _Slot) -> None:
        with contextlib.suppress(Exception):  # dead already
            self._ray.kill(slot.actor)

    def _give_up(self, slot: _Slot, why: str) -> None:
        """Have a slot no longer; its node stays without a worker there."""
        logger.warning("node %s has a worker less: %s", slot.node.host, why)
        self._end(slot)
        self._slots.remove(slot)
        self._troubles.gone(slot)
        if (task := slot.suspect) is None:
            return
        if task.volume in self._taken_along:
            self._troubles.done(slot, task.volume, scored=False)
            self._given_up.append((task, "", Result("failed", why=GONE)))
        else:  # a node may go at any volume
            self._taken_along.add(task.volume)
            self._todo.appendleft(task.volume)

    def _died(self, slot: _Slot, error: BaseException, why: str = DIED) -> None:
        """Begin a worker again; what it was at is looked at once the node has shown it lives."""
        if slot.task is not None:
            slot.suspect, slot.task = slot.task, None
            slot.why = LOST if _cause(error, DeviceLostError) else why
        self._end(slot)
        slot.restarts += 1
        if slot.restarts > MOST_RESTARTS:
            self._give_up(slot, words(error))
        else:
            logger.warning("a worker of node %s is begun again: %s", slot.node.host, words(error))
            self._start(slot)

    # --- volumes ------------------------------------------------------------------------

    def _hand_out(self) -> Iterator[str]:
        """Give every idle worker a volume; yield outcomes of those that cannot be given."""
        for volume in itertools.islice(list(self._todo), AHEAD):
            self._fetch(volume)
        self._failures.most = IN_A_ROW + len(self._slots)  # so many of the largest had begun
        for slot in [one for one in self._slots if one.waits_for is None]:
            if self._troubles.useless(slot):
                self._give_up(slot, f"{MOST} volumes in a row went wrong there alone")
                continue
            while slot.waits_for is None and (taken := self._next(slot)) is not None:
                path = self._fetched.pop(taken)
                try:
                    self._give(slot, taken, path.result())
                except FAILURES as err:
                    self._failures.failed(taken, why_of(err), blame_of(err))
                    yield "failed"

    def _fetch(self, volume: str) -> Future[Path]:
        """Have a CT here; in an archive that takes a while, in which results may come."""
        if volume not in self._fetched:
            self._fetched[volume] = self._fetchers.submit(
                image_of, self._context, volume, self._ended
            )
        return self._fetched[volume]

    def _next(self, slot: _Slot) -> str | None:
        """Take the first volume for a worker whose file is here; ``None`` where there is none."""
        for volume in itertools.islice(self._fit(slot), AHEAD):
            if self._fetch(volume).done():
                self._todo.remove(volume)
                return volume
        return None

    def _fit(self, slot: _Slot) -> Iterator[str]:
        """Yield the volumes that a worker may take, in order.

        The one that it has read comes first, and those that others have read come last.
        """
        own = slot.ahead.volume if slot.ahead else ""
        others = {one.ahead.volume for one in self._slots if one.ahead and one is not slot}
        todo = list(self._todo)
        if self._failures.suspected:  # it may be their size: the smallest next
            todo.sort(key=lambda volume: (not self._troubles.had(volume), -self._place[volume]))
        elif own or others:
            todo.sort(key=lambda volume: (volume != own, volume in others))
        return (one for one in todo if self._troubles.may_take(slot, one, self._slots))

    def _give(self, slot: _Slot, volume: str, path: Path) -> None:
        """Give a volume to a worker."""
        try:
            slot.task = self._task(slot, volume, path)
        except FileNotFoundError:  # gone since: it is looked for again
            self._todo.appendleft(volume)
            return
        except OSError as err:
            raise UnreadableVolumeError(path, f"cannot be read ({err.strerror})") from err
        tasks = [slot.task]
        slot.ahead = None
        if (ahead := self._to_read(slot, volume)) is not None:
            tasks.append(ahead)
            slot.ahead = ahead.key
        slot.since, slot.named = time.monotonic(), False
        slot.waits_for = slot.actor.score.remote(*tasks)

    def _task(self, slot: _Slot, volume: str, path: Path) -> Task:
        path = path.resolve()
        checks = volume not in self._unchecked
        task = Task(volume, path, None, checks, file_fingerprint(path))
        if task == slot.ahead or (slot.node.sees_studies and volume not in self._sent):
            return task
        return replace(task, content=path.read_bytes())

    def _to_read(self, slot: _Slot, volume: str) -> Task | None:
        """Return what a worker reads while it predicts a volume, where there is something.

        Beside a volume that went wrong once it reads nothing: it may have been that.
        """
        ahead = slot.node.gpus > 0 if self._ahead is None else self._ahead
        idle = sum(one.waits_for is None for one in self._slots)
        if not ahead or len(self._todo) < idle or self._troubles.had(volume):
            return None
        taken = {one.ahead.volume for one in self._slots if one.ahead}
        free = (one for one in self._fit(slot) if one not in taken and not self._troubles.had(one))
        for other in itertools.islice(free, AHEAD):
            if (fetched := self._fetch(other)).done():
                # Whoever is given it says what is wrong with it.
                with contextlib.suppress(Exception):
                    return self._task(slot, other, fetched.result())
        return None

    def _returned(self) -> list[Given]:
        """Wait a moment; return what workers have returned, and give them more to do."""
        waiting = {slot.waits_for: slot for slot in self._slots if slot.waits_for is not None}
        if not waiting:
            time.sleep(0.01)
            return []
        done, _ = self._ray.wait(list(waiting), timeout=0.2)
        found: list[Given] = []
        for reference in done:
            slot = waiting[reference]
            try:
                answer = self._ray.get(reference)
            except Exception as err:  # whatever Ray makes of what went wrong elsewhere
                if _cause(err, CheckpointError):
                    if slot.task is not None:
                        self._todo.appendleft(slot.task.volume)
                    self._give_up(slot, words(err))
                else:
                    self._died(slot, err)
                continue
            slot.waits_for = None
            if isinstance(answer, Result):
                task, slot.task, slot.restarts = slot.task, None, 0
                assert task is not None
                found.extend(self._answered(slot, task, answer))
            elif slot.suspect is not None:
                task, slot.suspect = slot.suspect, None
                if slot.why != LOST:  # a GPU that is lost again and again is given up
                    slot.restarts -= 1  # the node lives: who is to blame is found out otherwise
                found.extend(self._met(slot, task, Result("failed", why=slot.why, blame=DEATH)))
        now = time.monotonic()
        self._look_for_slow(now)
        for slot in [one for one in self._slots if one.waits_for and one.task is None]:
            if now > slot.since + START_S:
                self._give_up(slot, f"it was not there within {START_S:.0f} s")
        given_up, self._given_up = self._given_up, []
        return found + given_up

    def _answered(self, slot: _Slot, task: Task, result: Result) -> list[Given]:
        """Return what is to be entered of a worker's result."""
        if result.outcome in ("short", "trouble") or result.blame is not None:
            return self._met(slot, task, result)  # on another node the network may work
        if result.outcome in ("scored", "failed"):
            self._troubles.done(slot, task.volume, scored=result.outcome == "scored")
        if result.outcome == "scored":
            self._failures.scored()  # the networks work, whenever it is kept
            self._seconds.append(result.seconds)
        return [(task, task.fingerprint, result)]

    def _met(self, slot: _Slot, task: Task, result: Result) -> list[Given]:
        """Return what becomes of a volume that went wrong at a worker of a node that lives."""
        why, proven = result.why, result.outcome == "trouble"
        if final := self._troubles.met(slot, task.volume, why, proven=proven):
            why = f"{final}. `atlas8k score --retry` tries again"
            return [(task, "", Result("failed", why=why, blame=result.blame))]
        logger.warning("%s is tried again; on node %s: %s", task.volume, slot.node.host, why)
        if proven and len(self._slots) == 1:  # there is no other: later, then
            self._todo.append(task.volume)
        else:
            self._todo.appendleft(task.volume)
        return []

    def _look_for_slow(self, now: float) -> None:
        """Name volumes that take much longer than others; end workers that are stuck."""
        at_work = [one for one in self._slots if one.task and now > one.since + SLOW_S]
        if not at_work:
            return
        limit = max(SLOW_S, SLOW_TIMES * median(self._seconds)) if self._seconds else SLOW_S
        for slot in at_work:
            took = now - slot.since
            assert slot.task is not None
            if took > limit and not slot.named:
                slot.named = True
                logger.warning(
                    "node %s has been at %s for %.0f s, longer than is usual",
                    *(slot.node.host, slot.task.volume, took),
                )
            # Until some are done, nobody knows how long a CT takes here.
            if took > STUCK_TIMES * limit and len(self._seconds) >= ENOUGH:
                why = f"its worker was ended after {took:.0f} s"
                self._died(slot, TimeoutError(f"{slot.task.volume}: {why}"), why)

    def _keep(self, task: Task, fingerprint: str, result: Result) -> str | None:
        """Enter a result into the store; ``None``: the volume is to be predicted again."""
        context, volume, model_version = self._context, task.volume, self._job.model_version
        if result.outcome == "other_networks":
            self._others = True
            return None
        if result.outcome == "not_here":
            self._sent.add(volume)
            self._todo.append(volume)
            return None
        try:
            if fingerprint and not self._is_as_it_was(volume, fingerprint, result):
                self._todo.append(volume)
                return None
            if result.outcome == "ask":
                if not context.admit(volume, result.remarks):
                    return "set_aside"
                self._unchecked.add(volume)  # people want it all the same
                self._todo.append(volume)
                return None
            if isinstance(result.scored, Scored):
                if result.remarks is not None and not context.admit(volume, result.remarks):
                    return "set_aside"
                result.scored.keep(context, volume, model_version, result.seconds, result.peak_mb)
                return "scored"
        except FAILURES as err:
            result = Result("failed", why=why_of(err), blame=blame_of(err))
        self._failures.failed(volume, result.why, result.blame)
        return "failed"

    def _is_as_it_was(self, volume: str, fingerprint: str, result: Result) -> bool:
        """Return whether a CT is still the one that a result is of."""
        try:
            if file_fingerprint(image_of(self._context, volume, self._ended)) != fingerprint:
                return False
            # While the file is at hand, so that nobody waits for it at the next sample.
            if result.outcome == "scored":
                self._context.studies.checksum(volume)
        except (FileNotFoundError, ConflictError):  # it is being replaced
            return False
        return True


def _gpu(share: float) -> str:
    return "" if not share else " and a GPU" if share == 1 else f" and {share:.2g} of a GPU"


def _cause(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether a worker raised an error of a kind."""
    return isinstance(error, kind) or isinstance(getattr(error, "cause", None), kind)
