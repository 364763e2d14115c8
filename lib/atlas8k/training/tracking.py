"""Record curves of a training for TensorBoard, and for MLflow where a server is named.

::

    tensorboard --logdir apps/atlas8k/model/runs
    MONAI_LABEL_TRACKING_URI=http://mlflow:5000 monailabel start_server ...

Nothing here may end a training: an error is logged once, and the curves end there.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from atlas8k.training.loop import Progress

logger = logging.getLogger(__name__)

RUNS = "runs"
"""Folder of the event files, beside the networks."""
MOST_RUNS = 20
EXPERIMENT = "atlas8k"


class Tracker(AbstractContextManager["Tracker"]):
    """One run: scalars after every epoch, text at its beginning and end.

    Parameters
    ----------
    root
        Folder of the networks; events go to ``runs/events_<UTC time>`` in it.
    uri
        Address of an MLflow tracking server, or a store of its own (``sqlite:///runs.db``);
        empty for none.
    settings
        Settings of the run.
    """

    def __init__(self, root: Path, uri: str, settings: Mapping[str, Any]) -> None:
        name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._sinks: list[_TensorBoard | _Mlflow] = []
        self._try(lambda: self._sinks.append(_TensorBoard(root / RUNS, name, settings)))
        if uri:
            self._try(lambda: self._sinks.append(_Mlflow(uri, name, settings)))

    def __enter__(self) -> Self:
        return self

    def epoch(self, progress: Progress) -> None:
        """Record loss, learning rate, and DSC where it was measured."""
        name = progress.network
        values = {f"{name}/loss": progress.loss, f"{name}/learning_rate": progress.lr}
        if progress.mean_dsc is not None:
            values[f"{name}/dsc"] = progress.mean_dsc
        values |= {f"{name}/dsc_{organ}": value for organ, value in progress.dsc.items()}
        self._each(lambda sink: sink.scalars(values, progress.epoch))

    def result(self, message: str) -> None:
        """Record the result of the training, one line."""
        self._each(lambda sink: sink.text("result", message))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._each(lambda sink: sink.close(failed=kind is not None))

    def _each(self, write: Callable[[_TensorBoard | _Mlflow], None]) -> None:
        """Write to every sink; drop one that fails."""
        self._sinks = [sink for sink in self._sinks if self._try(partial(write, sink))]

    def _try(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except Exception as error:  # a full disk, a server that is gone, another version
            logger.warning("this training's curves are not recorded: %s", error)
            return False
        return True


class _TensorBoard:
    """A folder of event files; the oldest ones go."""

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for path in sorted(folder.glob("events_*"))[: -MOST_RUNS + 1]:
            shutil.rmtree(path, ignore_errors=True)
        self._writer: Any = SummaryWriter(str(folder / f"events_{name}"), flush_secs=10)
        self.text("settings", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, epoch)
        self._writer.flush()

    def text(self, key: str, value: str) -> None:
        self._writer.add_text(key, value)

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class _Mlflow:
    """One MLflow run, through a client of its own."""

    def __init__(self, uri: str, name: str, settings: Mapping[str, Any]) -> None:
        # A server that is gone must not hold a training up for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = (
            experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        )
        self._run = self._client.create_run(number, run_name=name).info.run_id
        self._client.log_batch(
            self._run, params=[Param(key, str(value)[:500]) for key, value in settings.items()]
        )

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        now = round(1000 * time.time())
        metrics = [self._metric(key, value, now, epoch) for key, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def text(self, key: str, value: str) -> None:
        self._client.set_tag(self._run, key, value[:5000])

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")
