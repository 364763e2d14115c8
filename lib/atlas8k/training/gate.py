"""Decide from paired scores whether new weights may replace the served ones.

Per network, and then for the ensemble that annotators are given:

* an organ fails whose mean DSC over the cases fell by more than the margin;
* with :data:`ENOUGH` cases or more it also fails where a one-sided Wilcoxon signed-rank
  test shows the typical case to have lost more than the margin, whatever one lucky case
  does to the mean;
* and with as many cases the network must be shown to be no worse: the same test, over
  each case's mean difference over its organs, has to exclude a loss of the margin
  (non-inferiority). Five pairs are the fewest for which it can: all five on one side
  have a probability of 1/32.

Organ by organ such a proof is not asked for: nine at once would need dozens of held-out
cases before anything could be published. Without a held-out case there are only those that
were trained on, where no organ of any single case may lose more than the margin, and organs
that nobody has labeled, where a network may not move far from the served ensemble's pseudo
labels. Both show what was forgotten, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import wilcoxon

from atlas8k.core.structures import ORGAN_NAMES

MARGIN = 0.02
"""DSC that an organ may lose."""
ENOUGH = 5
"""Fewest cases for a statistical test."""
ALPHA = 0.05
DRIFT = 0.05
"""DSC with the pseudo labels, mean over organs and cases, that a network may lose. They are
no truth, and a better network moves from them too."""

Scores = Mapping[str, Mapping[str, float]]
"""DSC by case and organ; organs that are absent or unknown are left out."""
Basis = Literal["held out", "trained on"]
TOGETHER = "ensemble"


@dataclass(frozen=True)
class Compared:
    """Scores of one organ before and after.

    Attributes
    ----------
    cases
        Number of cases that have it.
    served, new
        Mean DSC.
    p_worse
        P value of the typical loss being no more than the margin; None with too few cases.
    reason
        Reason of failing; empty where it passes.
    """

    cases: int
    served: float
    new: float
    p_worse: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The comparison of one network, or the ensemble, before and after.

    Attributes
    ----------
    p_no_worse
        P value of the loss being the margin or more; None with too few cases.
    reasons
        Reasons of failing; empty where it may be published.
    added
        Structures that only the new networks know: cases, and mean DSC. They are told apart:
        what is gained there makes up for no loss, and nothing was there to be lost.
    """

    organs: Mapping[str, Compared]
    cases: int
    p_no_worse: float | None
    reasons: tuple[str, ...]
    added: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class Decision:
    """The decision about the networks of a training.

    Attributes
    ----------
    publish
        Networks that replace the served ones.
    refused
        Reason by network; under ``"ensemble"`` the reason why none of them is published.
    verdicts
        By network, and ``"ensemble"`` where it was compared.
    warnings
        What the decision could not take into account.
    """

    publish: tuple[str, ...]
    refused: Mapping[str, str]
    verdicts: Mapping[str, Verdict]
    basis: Basis
    margin: float
    warnings: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Reasons why networks are not published, one line; empty where all are."""
        return "; ".join(f"{name}: {why}" for name, why in self.refused.items())

    def as_json(self) -> dict[str, Any]:
        """Return the decision with all scores, JSON-ready."""
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
                "cases": scores.cases,
                "served": round(scores.served, 4),
                "new": round(scores.new, 4),
                "p_worse": None if scores.p_worse is None else round(scores.p_worse, 5),
            }
            for organ, scores in verdict.organs.items()
        },
        **(
            {
                "added": {
                    o: {"cases": n, "new": round(dsc, 4)} for o, (n, dsc) in verdict.added.items()
                }
            }
            if verdict.added
            else {}
        ),
    }


def judge(
    served: Scores, new: Scores, *, margin: float = MARGIN, basis: Basis, fewest: int = 0
) -> Verdict:
    """Compare two sets of scores of the same cases.

    Parameters
    ----------
    served, new
        Cases and organs that only one of them has are not compared.
    margin
        DSC that may be lost.
    fewest
        Fewest cases to compare: what was not measured is not published.
    """
    organs, reasons = {}, []
    for organ in ORGAN_NAMES:
        pairs = {
            case: (served[case][organ], new[case][organ])
            for case in served
            if case in new and organ in served[case] and organ in new[case]
        }
        if not pairs:
            continue
        organs[organ] = compared = _organ(pairs, margin, basis)
        if compared.reason:
            reasons.append(f"{organ} {compared.reason}")
    changes = _changes(served, new)
    added = _added(served, new)
    p = None
    shared = len(served.keys() & new.keys())
    if shared < fewest:
        reasons.append(f"could be compared on {shared} cases only, {fewest} are needed")
    elif not organs and not added:
        reasons.append("no case has an organ to measure")
    elif basis == "held out" and len(changes) >= ENOUGH:
        p = _p(changes + margin, "greater")
        if p >= ALPHA:
            reasons.append(
                f"{len(changes)} cases do not show that it lost less than {margin:g} DSC in all "
                f"(mean change {changes.mean():+.3f}, p = {p:.2f})"
            )
    return Verdict(organs, len(changes), p, tuple(reasons), added)


def _added(served: Scores, new: Scores) -> dict[str, tuple[int, float]]:
    """Return cases and mean DSC of structures that no case has under the served networks."""
    before = {organ for scores in served.values() for organ in scores}
    found: dict[str, list[float]] = {}
    for case in served.keys() & new.keys():
        for organ, dsc in new[case].items():
            if organ not in before:
                found.setdefault(organ, []).append(dsc)
    return {o: (len(found[o]), float(np.mean(found[o]))) for o in ORGAN_NAMES if o in found}


def _organ(pairs: Mapping[str, tuple[float, float]], margin: float, basis: Basis) -> Compared:
    before, after = (np.array(values) for values in zip(*pairs.values(), strict=True))
    change = after - before
    p = None
    if basis == "held out" and len(change) >= ENOUGH:
        p = _p(change + margin, "less")
    reason = ""
    if change.mean() < -margin:
        reason = f"fell from {before.mean():.3f} to {after.mean():.3f} DSC"
    elif p is not None and p < ALPHA:
        reason = f"fell in most of {len(change)} cases (median {np.median(change):+.3f} DSC)"
    elif basis == "trained on" and change.min() < -margin:
        case = list(pairs)[int(change.argmin())]
        reason = f"fell from {pairs[case][0]:.3f} to {pairs[case][1]:.3f} DSC in one case"
    return Compared(len(change), float(before.mean()), float(after.mean()), p, reason)


def _changes(served: Scores, new: Scores) -> npt.NDArray[np.float64]:
    """Return every case's mean change of DSC over its organs, ``(cases,)``."""
    means = []
    for case in served:
        shared = served[case].keys() & new.get(case, {}).keys()
        if shared:
            means.append(np.mean([new[case][o] - served[case][o] for o in sorted(shared)]))
    return np.array(means)


def _p(differences: npt.NDArray[np.float64], alternative: str) -> float:
    """Compute the p value of a one-sided signed-rank test against 0; 1 where all are 0."""
    # Differences by rounding alone count as ties.
    rounded = np.round(differences, 9)
    if not rounded.any():
        return 1.0
    return float(wilcoxon(rounded, alternative=alternative).pvalue)


def decide(
    single: Mapping[str, tuple[Scores, Scores]],
    sets: Mapping[frozenset[str], Scores],
    *,
    margin: float = MARGIN,
    basis: Basis,
    pseudo: Mapping[str, tuple[Scores, Scores]] | None = None,
    unfit: Mapping[str, str] | None = None,
    chosen: int = 0,
    warnings: Sequence[str] = (),
) -> Decision:
    """Decide which of the trained networks may be published.

    Parameters
    ----------
    single
        By trained network, its scores with the served and with the new weights.
    sets
        Scores of the ensemble, by the networks in it that are new; of every combination.
    pseudo
        As `single`, against the served ensemble's pseudo labels of organs nobody labeled.
    unfit
        Trained networks that failed on a case, and why: none of them is published.
    chosen
        Cases that were to be measured. As many of them as the tests need, or all of fewer,
        must have been: on a few that are left, nothing can be decided.
    warnings
        Further limits of the decision.
    """
    compare = partial(judge, margin=margin, basis=basis, fewest=min(ENOUGH, chosen))
    verdicts = {name: compare(*pair) for name, pair in single.items()}
    refused = {n: "; ".join(v.reasons) for n, v in verdicts.items() if not v.passed}
    refused |= unfit or {}
    for name, pair in (pseudo or {}).items():
        reason = _drifted(*pair)
        if reason:
            refused[name] = "; ".join(filter(None, [refused.get(name), reason]))
    publish = tuple(n for n in single if n not in refused)
    if publish:
        verdict = compare(sets[frozenset()], sets[frozenset(publish)])
        verdicts[TOGETHER] = verdict
        if not verdict.passed:
            refused[TOGETHER] = "; ".join(verdict.reasons)
            publish = ()
    all_warnings = (*_warnings(verdicts, basis), *warnings)
    return Decision(publish, refused, verdicts, basis, margin, all_warnings)


def _drifted(served: Scores, new: Scores) -> str:
    """Return the reason to refuse a network that forgot unlabeled organs; empty where none."""
    changes = _changes(served, new)
    if len(changes) == 0 or changes.mean() >= -DRIFT:
        return ""
    return (
        f"agreement with the pseudo labels of {len(changes)} volumes, organs nobody labeled, "
        f"changed by {changes.mean():+.3f} DSC"
    )


def _warnings(verdicts: Mapping[str, Verdict], basis: Basis) -> tuple[str, ...]:
    if basis == "trained on":
        return (
            "there is no held-out case: measured on what was trained on, which can show what "
            "was forgotten and not what was learned",
        )
    counts: dict[str, int] = {}
    for verdict in verdicts.values():
        for organ, compared in verdict.organs.items():
            counts[organ] = max(counts.get(organ, 0), compared.cases)
        for organ, (cases, _) in verdict.added.items():
            counts[organ] = max(counts.get(organ, 0), cases)
    few = [f"{organ} ({n})" for organ, n in counts.items() if n < ENOUGH]
    none = [organ for organ in ORGAN_NAMES if organ not in counts]
    warnings = []
    if few:
        warnings.append(f"fewer than {ENOUGH} held-out cases, no test: {', '.join(few)}")
    if none:
        warnings.append(f"no held-out case, not looked at: {', '.join(none)}")
    return tuple(warnings)
