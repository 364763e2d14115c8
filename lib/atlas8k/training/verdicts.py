"""What the gate says: scores, what was compared, what becomes of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Scores = Mapping[str, Mapping[str, float]]
"""DSC by case and organ; organs that are absent or unknown are left out."""
Basis = Literal["held out", "trained on"]
TOGETHER = "ensemble"


@dataclass(frozen=True)
class Compared:
    """One organ before and after.

    Attributes
    ----------
    cases
        How many cases have it.
    served, new
        Mean DSC.
    p_worse
        Of the typical loss being no more than the margin; None with too few cases.
    reason
        Why it fails, empty where it does not.
    """

    cases: int
    served: float
    new: float
    p_worse: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """One network, or the ensemble, before and after.

    Attributes
    ----------
    p_no_worse
        Of the loss being the margin or more; None with too few cases.
    reasons
        Why it fails; empty where it may be published.
    """

    organs: Mapping[str, Compared]
    cases: int
    p_no_worse: float | None
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class Decision:
    """What becomes of a training.

    Attributes
    ----------
    publish
        Networks that take the place of the served ones.
    refused
        Reason by network; under ``"ensemble"`` why none of them does.
    verdicts
        By network, and ``"ensemble"`` where it came to that.
    warnings
        What the decision could not look at.
    """

    publish: tuple[str, ...]
    refused: Mapping[str, str]
    verdicts: Mapping[str, Verdict]
    basis: Basis
    margin: float
    warnings: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why something is not published, one line; empty where all of it is."""
        return "; ".join(f"{name}: {why}" for name, why in self.refused.items())

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "publish": list(self.publish),
            "refused": dict(self.refused),
            "basis": self.basis,
            "margin": self.margin,
            "warnings": list(self.warnings),
            "compared": {name: _as_json(verdict) for name, verdict in self.verdicts.items()},
        }


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "cases": verdict.cases,
        "p_no_worse": None if verdict.p_no_worse is None else round(verdict.p_no_worse, 5),
        "organs": {
            organ: {
                "cases": one.cases,
                "served": round(one.served, 4),
                "new": round(one.new, 4),
                "p_worse": None if one.p_worse is None else round(one.p_worse, 5),
            }
            for organ, one in verdict.organs.items()
        },
    }
