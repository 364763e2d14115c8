"""What annotators made of the labels they were given, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from atlas8k.evaluation.panel import align
from atlas8k.evaluation.quality import STARS
from atlas8k.evaluation.results import Results
from atlas8k.evaluation.statistics import holm, mean_sd, signed_rank
from atlas8k.evaluation.tables import Table, exact, number, stars
from atlas8k.organs import ORGAN_NAMES

OUTCOMES = ("confirmed", "revised", "absent", "not_assessed")
"""What a submission may say of an organ; see the ledger's records."""


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
    """Labels given out and labels submitted, on the volumes of each round.

    Parameters
    ----------
    rounds
        In order, one at least.
    against
        What the truth is, for the caption.

    Raises
    ------
    EvaluationError
        As :func:`atlas8k.evaluation.panel.align`.
    """
    metric = rounds[0].before.metric
    columns = (*ORGAN_NAMES, "average")
    rows: list[tuple[str, ...]] = []
    records: list[tuple[str, ...]] = [("round", "labels", "class", "n", "mean", "sd", "p_holm")]
    for one in rounds:
        panel = align([r for r in (one.before, one.after) if r is not None])
        stacked = panel.stacked
        means, sds, n = mean_sd(stacked, axis=1)
        p = np.full(means.shape, np.nan)
        if one.after is not None:
            raw = [signed_rank(b, a) for a, b in zip(stacked[0].T, stacked[1].T, strict=True)]
            p[1] = holm(np.array(raw))
        for r, state in enumerate(("given out", "submitted")[: len(means)]):
            cells = [
                number(float(m)) + (f" {stars(float(q))}" if r else "")
                for m, q in zip(means[r], p[r], strict=True)
            ]
            rows.append((f"{one.name}, {state}", str(len(panel.cases)), *cells))
            records += [
                (one.name, state, column, str(int(n[r, m])), exact(float(means[r, m])),
                 exact(float(sds[r, m])), exact(float(p[r, m])))
                for m, column in enumerate(columns)
            ]  # fmt: skip
    paired = any(one.after is not None for one in rounds)
    tests = (
        " Stars: submitted better than given out, one-sided Wilcoxon signed rank test on the same "
        f"volumes, Holm's adjustment over a row; {STARS}."
    )
    return Table(
        f"revision-{metric}",
        f"Labels given out and submitted, {metric.upper()}",
        f"Mean {metric.upper()} in % against {against}, over the n volumes of a round where the "
        f"organ is present.{tests if paired else ''}",
        ("labels", "n", *columns),
        tuple(rows),
        records=tuple(records),
    )


@dataclass
class Effort:
    """What the ledger says of one round.

    Attributes
    ----------
    name, networks
        Of the round; signature of the networks whose labels were given out.
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
        """Count what a submission says of an organ."""
        counted = self.outcomes.setdefault(organ, dict.fromkeys(OUTCOMES, 0))
        counted[outcome] = counted.get(outcome, 0) + 1
        if outcome in ("revised", "absent") and dsc is not None:
            self.overlap.setdefault(organ, []).append(dsc)


def effort_tables(rounds: Sequence[Effort]) -> list[Table]:
    """How much was done in each round, and what became of each organ."""
    work = Table(
        "effort",
        "What was done in each round",
        "Minutes: from lease to submission, median (quartiles) over the submissions where they "
        "are known. Organs changed: revised or emptied, mean of a submission.",
        ("round", "networks", "volumes", "submissions", "annotators", "minutes", "organs changed"),
        tuple(
            (
                one.name, one.networks, str(len(one.volumes)), str(one.submissions),
                str(len(one.annotators)), _minutes(one.minutes),
                number(_changed(one.outcomes) / max(one.submissions, 1), 1, 1.0),
            )
            for one in rounds
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
                one.name, organ, *(str(one.outcomes[organ][name]) for name in OUTCOMES),
                number(float(np.mean(one.overlap[organ])) if organ in one.overlap else np.nan),
            )
            for one in rounds
            for organ in ORGAN_NAMES
            if organ in one.outcomes
        ),
    )  # fmt: skip
    return [work, organs]


def _minutes(minutes: Sequence[float]) -> str:
    if not minutes:
        return "–"
    low, middle, high = np.quantile(minutes, [0.25, 0.5, 0.75])
    return f"{middle:.0f} ({low:.0f}–{high:.0f})"


def _changed(outcomes: Mapping[str, Mapping[str, int]]) -> int:
    return sum(one["revised"] + one["absent"] for one in outcomes.values())
