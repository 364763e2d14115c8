"""Trainer `atlas8k` of MONAI Label: the use-case :mod:`.fine_tuning` as its task."""

from __future__ import annotations

from typing import Any

from monailabel.config import settings
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from atlas8k.services.context import Context
from atlas8k.services.training.fine_tuning import FineTuning


class FineTuningTask(TrainTask):
    """Fine-tune the active networks, as 3D Slicer's *Train* asks for."""

    def __init__(self, context: Context) -> None:
        super().__init__("Fine-tune the three networks on submitted labels and serve them")
        uri = settings.MONAI_LABEL_TRACKING_URI if settings.MONAI_LABEL_TRACKING_ENABLED else ""
        self._training = FineTuning(context, uri)

    def config(self) -> dict[str, Any]:
        """Return what a client may set."""
        return self._training.config()

    def stats(self) -> dict[str, Any]:
        """Return the last training or the one that runs, in the fields 3D Slicer reads."""
        return self._training.stats()

    def check(self, request: dict[str, Any]) -> None:
        """Raise :class:`RequestError` where a training cannot be meant so."""
        self._training.check(request)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train; see :meth:`FineTuning.run`."""
        return self._training.run(request)
