"""Predicted quality as it is shown: put right by what a campaign's annotators found."""

from __future__ import annotations

from typing import Any

from atlas8k.attention.quality_model import UNKNOWN
from atlas8k.attention.recalibration import EMBEDDED, Calibration, calibrate
from atlas8k.store import Ledger


class Calibrations:
    """Gives the calibration of each model version; reads submissions again where one came in.

    Parameters
    ----------
    ledger
        Of the campaign.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, tuple[int, Calibration]] = {}

    def of(self, model_version: str | None) -> Calibration:
        """Return the calibration of a model version; that of none is as embedded."""
        if model_version is None:
            return EMBEDDED
        mark = self._ledger.quality_mark()
        known = self._known.get(model_version)
        if known is None or known[0] != mark:
            known = mark, calibrate(*self._ledger.quality_seen(model_version))
            self._known[model_version] = known
        return known[1]

    def explanation(self, volume: str, model_version: str | None) -> dict[str, Any] | None:
        """Return what was noted with a volume's score, its predicted quality put right.

        ``quality_basis`` is added: what that rests on, or that it is unknown, in words.
        """
        if model_version is None:
            return None
        noted = self._ledger.explanation(volume, model_version)
        if noted is None:
            return None
        if not noted.get("quality"):
            return {"quality_basis": UNKNOWN, **noted}
        calibration = self.of(model_version)
        quality = calibration.applied(noted["quality"])
        return {**noted, "quality": quality, "quality_basis": calibration.text}
