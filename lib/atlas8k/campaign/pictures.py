"""Draw a campaign: the list with its outcomes, changes over rounds, a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas8k.campaign.reports import Outliers, Status
from atlas8k.campaign.reviewed import Reviewed, reviewed
from atlas8k.campaign.simulation import Quality, SimulatedRound
from atlas8k.core.files import publishing
from atlas8k.core.rankings import RANKINGS
from atlas8k.store import Plan, Planned, Worked

CHANGED, CONFIRMED, OPEN, HELD = "#c0392b", "#2e7d4f", "#c9ced6", "#e0a526"
"""Colours of volumes in the list."""
KINDS = {"changed": CHANGED, "added": "#e07b39", "absent": "#7b5ea7", "confirmed": CONFIRMED}

"""Axis label of each ranking."""


def _figure(rows: int, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no state, no display

    figure = Figure(figsize=(9, height), layout="constrained")
    return figure, figure.subplots(rows, 1)


def _save(figure: Any, path: Path) -> None:
    with publishing(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix[1:])


def draw(path: Path, status: Status, plan: Plan | None, work: Sequence[Worked]) -> None:
    """Draw the last list by attention, and the changes of every round.

    Parameters
    ----------
    path
        ``.png`` or ``.svg``.
    plan, work
        The last list that was drawn, and the submissions of its round.
    """
    figure, (above, below) = _figure(2, 7)
    _list(above, plan, reviewed(work), status.outliers)
    _changes(below, status)
    _save(figure, path)


def _list(
    axes: Any, plan: Plan | None, volumes: dict[str, Reviewed], outliers: Outliers | None = None
) -> None:
    if plan is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no round has a list yet", ha="center", transform=axes.transAxes)
        return
    places = [line.place for line in plan.lines]
    axes.bar(
        places,
        [line.ml for line in plan.lines],
        width=1.0 if len(places) > 100 else 0.8,
        color=[_colour(line, volumes) for line in plan.lines],
    )
    audited = [line for line in plan.lines if line.audit is not None]
    axes.plot(
        [line.place for line in audited],
        [line.ml for line in audited],
        linestyle="none",
        marker="v",
        markersize=7,
        color="black",
        label="drawn for audit",
    )
    axes.axvline(plan.top + 0.5, color="black", linewidth=0.8, linestyle="--")
    axes.annotate(
        "budget", (plan.top + 0.5, 0.97), xycoords=("data", "axes fraction"),
        xytext=(-4, 0), textcoords="offset points", ha="right", va="top", fontsize=8,
    )  # fmt: skip
    # The fence is of the sizes of now; of a list by another ranking it says nothing.
    if outliers is not None and outliers.fence is not None and outliers.ranking == plan.ranking:
        axes.axhline(outliers.fence, color="#4477aa", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{outliers.outliers} outliers above", (1.0, outliers.fence),
            xycoords=("axes fraction", "data"), xytext=(-4, 3), textcoords="offset points",
            ha="right", va="bottom", fontsize=8, color="#4477aa",
        )  # fmt: skip
    for name, colour in (
        ("needed a change", CHANGED),
        ("confirmed", CONFIRMED),
        ("in hand", HELD),
        ("open", OPEN),
    ):
        axes.plot([], [], linestyle="none", marker="s", markersize=9, color=colour, label=name)
    axes.legend(fontsize=8, frameon=False)
    axes.set_xlim(0.4, len(places) + 0.6)
    axes.set_ylim(0, 1.12 * max((line.ml for line in plan.lines), default=1) or 1)
    if len(places) <= 30:
        axes.set_xticks(places)
    axes.set_xlabel("place in the list")
    ranking = RANKINGS[plan.ranking]
    axes.set_ylabel(f"{ranking.figure}{ranking.in_unit}")
    axes.set_title(f"Round {plan.round}: the list as it was drawn, and its outcomes", loc="left")


def _colour(line: Planned, volumes: dict[str, Reviewed]) -> str:
    volume = volumes.get(line.volume)
    if volume is not None and volume.outcome == "changed":
        return CHANGED
    if volume is not None and volume.outcome == "confirmed":
        return CONFIRMED
    return HELD if line.status == "leased" else OPEN


def _changes(axes: Any, status: Status) -> None:
    rounds = [round_ for round_ in status.rounds if round_.reviewed]
    numbers = list(range(len(rounds)))
    bottom = [0] * len(rounds)
    for kind, colour in KINDS.items():
        counts = [sum(getattr(organ, kind) for organ in round_.organs) for round_ in rounds]
        axes.bar(numbers, counts, bottom=bottom, color=colour, label=kind, width=0.6)
        bottom = [a + b for a, b in zip(bottom, counts, strict=True)]
    for place, round_ in enumerate(rounds):
        axes.annotate(
            f"{round_.changed} of {round_.reviewed} volumes changed", (place, bottom[place]),
            xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    axes.set_ylim(0, 1.3 * max(bottom, default=1) or 1)
    axes.set_xlim(-0.6, max(len(rounds), 3) - 0.4)
    axes.set_xticks(numbers, [str(round_.number) for round_ in rounds])
    axes.set_xlabel("round")
    axes.set_ylabel("organs")
    axes.set_title("Changes of annotators to the organs they were given", loc="left")
    if rounds:
        axes.legend(fontsize=8, frameon=False, ncols=4, loc="upper right")
    else:
        axes.text(0.5, 0.5, "nothing was reviewed yet", ha="center", transform=axes.transAxes)


def draw_simulation(path: Path, rounds: Sequence[SimulatedRound]) -> None:
    """Draw label quality through the phases of a simulated campaign, by organ."""
    figure, axes = _figure(1, 4.5)
    names: list[str] = []
    measured: list[Quality] = []
    for round_ in rounds:
        for phase in ("before", "revised", "after"):
            value = getattr(round_, phase)
            if value is not None and not (phase == "before" and names):
                names.append(f"round {round_.round}\n{phase}" if phase != "before" else "start")
                measured.append(value)
    organs = dict.fromkeys(organ for value in measured for organ in value.organs)
    for organ in organs:
        axes.plot(
            range(len(names)), [value.organs.get(organ) for value in measured],
            linewidth=1, alpha=0.8, label=organ,
        )  # fmt: skip
    every = range(len(names))
    axes.plot(every, [v.dsc for v in measured], color="black", linewidth=2.5, label="all organs")
    axes.plot(
        every, [v.dsc_unreviewed for v in measured],
        color="black", linewidth=1.5, linestyle=":", label="volumes nobody saw",
    )  # fmt: skip
    axes.set_xticks(list(every), names, fontsize=8)
    axes.set_ylabel("DSC with the truth")
    axes.set_title("Quality of the fused labels", loc="left")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid(axis="y", alpha=0.3)
    _save(figure, path)
