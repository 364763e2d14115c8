"""Scoring method `attention` of MONAI Label: the use-case :mod:`atlas8k.services.scoring`."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from atlas8k.services.context import Context
from atlas8k.services.scoring import Scoring


class AttentionScoring(ScoringMethod):
    """Attention sizes and pseudo labels of every volume that has none."""

    def __init__(self, context: Context) -> None:
        super().__init__("Attention size (Eq. 4) of every volume; pseudo labels as a start")
        self._scoring = Scoring(context)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score until nothing is stale; see :meth:`Scoring.run`."""
        return dict(self._scoring.run())
