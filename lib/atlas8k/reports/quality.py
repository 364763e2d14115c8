"""Compare the quality of labels before and after each round: AbdomenAtlas-8K's Tables 5 to 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from atlas8k.core.errors import EvaluationError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.results import Panel, Results, align
from atlas8k.reports.statistics import Floats, holm, mean_sd, signed_rank
from atlas8k.reports.tables import Table, long_records, number, p_text, plus_minus, stars

STARS = "ns p > 0.05, * p ≤ 0.05, ** p ≤ 0.01, *** p ≤ 0.001, **** p ≤ 0.0001"
OUTCOMES = ("confirmed", "revised", "absent", "not_assessed")
"""Outcomes that a submission may have for an organ; see the ledger's records."""


def _counts(panel: Panel) -> str:
    both = (~np.isnan(panel.stacked)).all(axis=0).sum(axis=0)
    return ", ".join(f"{column} {n}" for column, n in zip(panel.columns, both, strict=True))


def _p_values(
    after: Floats, before: Floats, alternative: Literal["greater", "two-sided"] = "greater"
) -> Floats:
    """Return the p-value of each column of two ``(cases, columns)``."""
    return np.array(
        [signed_rank(a, b, alternative) for a, b in zip(after.T, before.T, strict=True)]
    )


def rounds_table(results: Sequence[Results]) -> Table:
    """Return label quality before and after rounds of revision (Table 5).

    Parameters
    ----------
    results
        Per-case results of the labels against the truth, in the order of the rounds; the
        first are those before any round.

    Raises
    ------
    EvaluationError
        As :func:`atlas8k.reports.results.align`, and for fewer than two.
    """
    if len(results) < 2:
        raise EvaluationError("rounds", "results before and after one round at least are needed")
    panel = align(results)
    stacked = panel.stacked
    means, sds, n = mean_sd(stacked, axis=1)
    p = np.full(means.shape, np.nan)
    for r in range(1, len(results)):
        p[r] = holm(_p_values(stacked[r], stacked[r - 1]))
    gain = means[-1] - means[0]
    metric = panel.metric.upper()
    return Table(
        f"rounds-{panel.metric}",
        f"Label quality over rounds, {metric}",
        f"Mean {metric} in % over the cases where the organ is present, average over per-case "
        f"means; paired cases: {_counts(panel)}. Stars: better than the row before, one-sided "
        f"Wilcoxon signed rank test, Holm's adjustment over a row; {STARS}. Change: last row "
        "less first, percentage points.",
        ("labels", *panel.columns),
        (
            (panel.networks[0], *map(number, means[0])),
            *(
                (name, *(f"{number(m)} {stars(q)}" for m, q in zip(row, ps, strict=True)))
                for name, row, ps in zip(panel.networks[1:], means[1:], p[1:], strict=True)
            ),
            ("change", *("–" if np.isnan(g) else f"{100 * g:+.1f}" for g in gain)),
        ),
        records=long_records(
            {"round": panel.networks, "class": panel.columns}, n=n, mean=means, sd=sds, p_holm=p
        ),
    )


def training_sets_table(first: Results, second: Results) -> Table:
    """Return networks trained on two sets, tested on one (Tables 6 and 7).

    Raises
    ------
    EvaluationError
        As :func:`atlas8k.reports.results.align`.
    """
    panel = align([first, second])
    stacked = panel.stacked
    raw = _p_values(stacked[0], stacked[1], "two-sided")
    adjusted = holm(raw)
    means, sds, n = mean_sd(stacked, axis=1)
    better = np.nan_to_num(means[1], nan=-1) > np.nan_to_num(means[0], nan=-1)
    metric = panel.metric.upper()
    return Table(
        f"training-sets-{panel.metric}",
        f"{panel.networks[0]} against {panel.networks[1]}, {metric}",
        f"{metric} in %, mean±population SD over the cases where the organ is present, average "
        f"over per-case means; paired cases: {_counts(panel)}. p: two-sided Wilcoxon signed rank "
        f"test, Holm's adjustment over the columns; {STARS}. Bold: significantly better.",
        ("trained on", *panel.columns),
        (
            *((name, *map(plus_minus, means[r], sds[r])) for r, name in enumerate(panel.networks)),
            ("p", *map(p_text, adjusted)),
            ("", *map(stars, adjusted)),
        ),
        frozenset((int(better[m]), int(m) + 1) for m in np.flatnonzero(adjusted <= 0.05)),
        long_records(
            {"training_set": panel.networks, "class": panel.columns},
            n=n, mean=means, sd=sds, p=raw, p_holm=adjusted,
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Revised:
    """One round's work on labels.

    Attributes
    ----------
    name
        Such as ``round 1``.
    before
        Results of the labels that annotators were given.
    after
        Of what they submitted, against the same truth; ``None`` where what they submitted
        is the truth.
    """

    name: str
    before: Results
    after: Results | None


def revision_table(rounds: Sequence[Revised], against: str) -> Table:
    """Return the quality of labels given out and labels submitted, on each round's volumes.

    Parameters
    ----------
    rounds
        In order, one at least.
    against
        Name of the truth, for the caption.

    Raises
    ------
    EvaluationError
        As :func:`atlas8k.reports.results.align`.
    """
    metric = rounds[0].before.metric
    rows: list[tuple[str, ...]] = []
    records = []
    for round_ in rounds:
        panel = align([r for r in (round_.before, round_.after) if r is not None])
        means, sds, n = mean_sd(panel.stacked, axis=1)
        p = np.full(means.shape, np.nan)
        if round_.after is not None:
            p[1] = holm(_p_values(panel.stacked[1], panel.stacked[0]))
        states = ("given out", "submitted")[: len(means)]
        for r, state in enumerate(states):
            cells = (
                f"{number(m)} {stars(q)}" if r else number(m)
                for m, q in zip(means[r], p[r], strict=True)
            )
            rows.append((f"{round_.name}, {state}", str(len(panel.cases)), *cells))
        axes = {"round": [round_.name], "labels": states, "class": panel.columns}
        records.append(long_records(axes, n=n, mean=means, sd=sds, p_holm=p))
    tests = (
        " Stars: submitted better than given out, one-sided Wilcoxon signed rank test on the same "
        f"volumes, Holm's adjustment over a row; {STARS}."
    )
    return Table(
        f"revision-{metric}",
        f"Labels given out and submitted, {metric.upper()}",
        f"Mean {metric.upper()} in % against {against}, over the n volumes of a round where the "
        f"organ is present.{tests if any(round_.after is not None for round_ in rounds) else ''}",
        ("labels", "n", *ORGAN_NAMES, "average"),
        tuple(rows),
        records=pd.concat(records),
    )


@dataclass
class Effort:
    """Work on labels that the ledger records for one round.

    Attributes
    ----------
    name, networks
        Of the round; model version of the networks whose labels were given out.
    volumes, annotators
        Names.
    submissions
        Accepted, second readings included.
    minutes
        From lease to submission, where known.
    outcomes
        Organ to outcome to how often.
    overlap
        Organ to the DSC of label given out and submitted, where it was changed.
    """

    name: str
    networks: str
    volumes: set[str] = field(default_factory=set)
    annotators: set[str] = field(default_factory=set)
    submissions: int = 0
    minutes: list[float] = field(default_factory=list)
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    overlap: dict[str, list[float]] = field(default_factory=dict)

    def add(self, organ: str, outcome: str, dsc: float | None) -> None:
        """Count the outcome of an organ in a submission, and the DSC where it was changed."""
        counted = self.outcomes.setdefault(organ, dict.fromkeys(OUTCOMES, 0))
        counted[outcome] = counted.get(outcome, 0) + 1
        if outcome in ("revised", "absent") and dsc is not None:
            self.overlap.setdefault(organ, []).append(dsc)


def effort_tables(rounds: Sequence[Effort]) -> list[Table]:
    """Return a table of the work of each round, and one of the outcomes of each organ."""
    work = Table(
        "effort",
        "What was done in each round",
        "Minutes: from lease to submission, median (quartiles) over the submissions where they "
        "are known. Organs changed: revised or emptied, mean of a submission.",
        ("round", "networks", "volumes", "submissions", "annotators", "minutes", "organs changed"),
        tuple(
            (
                round_.name, round_.networks, str(len(round_.volumes)), str(round_.submissions),
                str(len(round_.annotators)), _minutes(round_.minutes), f"{_changed(round_):.1f}",
            )
            for round_ in rounds
        ),
    )  # fmt: skip
    organs = Table(
        "outcomes",
        "What became of each organ",
        "Submissions in which the organ was confirmed, revised, marked absent, or not assessed; "
        "DSC in % of the label given out and the one submitted, mean over those that were changed.",
        ("round", "organ", *(name.replace("_", " ") for name in OUTCOMES), "DSC of changed"),
        tuple(
            (
                round_.name, organ, *(str(round_.outcomes[organ][name]) for name in OUTCOMES),
                number(float(np.mean(round_.overlap.get(organ, np.nan)))),
            )
            for round_ in rounds
            for organ in ORGAN_NAMES
            if organ in round_.outcomes
        ),
    )  # fmt: skip
    return [work, organs]


def _minutes(minutes: Sequence[float]) -> str:
    if not minutes:
        return "–"
    low, middle, high = np.quantile(minutes, [0.25, 0.5, 0.75])
    return f"{middle:.0f} ({low:.0f}–{high:.0f})"


def _changed(effort: Effort) -> float:
    """Return how many organs a submission of a round changes on average."""
    changed = sum(organ["revised"] + organ["absent"] for organ in effort.outcomes.values())
    return changed / max(effort.submissions, 1)
