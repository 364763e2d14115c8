"""Print a campaign's status as tables of a terminal."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atlas8k.campaign.effort import MINUTES_A_VOLUME, MINUTES_AN_ORGAN
from atlas8k.cli.terminal_tables import decimals, print_table, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from atlas8k.campaign.reports import RoundReport, Status, Training
    from atlas8k.campaign.simulation import SimulatedRound
    from atlas8k.campaign.strategies import Compared

SHOWN = 10
"""Most volumes listed as not usable in a terminal."""
STYLES = {"done": "green", "due": "bold yellow", "running": "cyan", "to decide": "bold green"}


def print_status(status: Status) -> None:
    """Print a campaign's status: volumes, steps, rounds, stop rule and audit."""
    out = terminal()

    def print_line(line: str) -> None:
        out.print(line, markup=False)

    volumes = status.volumes
    print_line(
        f"{volumes.total} volumes: {volumes.reviewed} reviewed, {volumes.in_hand} in hand, "
        f"{volumes.scored} scored"
        + (f", {volumes.failed} cannot be" if volumes.failed else "")
        + (f", {volumes.conflicts} in conflict" if volumes.conflicts else "")
        + (f", {volumes.excluded} not usable" if volumes.excluded else "")
        + f"; networks {status.model_version or 'none'}"
    )
    for line in not_usable(status):
        print_line(line)
    print_steps(status, out)
    if status.rounds:
        _print_rounds(status, out)
        last = next((round_ for round_ in reversed(status.rounds) if round_.reviewed), None)
        if last is not None:
            _print_organs(last, out)
            _print_evidence(last, out)
            _print_quality(last, out)
            _print_annotators(last, out)
    if status.stop is not None:
        print_line(f"Stop rule, round {status.stop.round}: {status.stop.text}")
    if status.sweep is not None:
        print_line(f"Sweep: {status.sweep.text}")
    if status.audit is not None:
        print_line(f"Audit, round {status.audit.round}: {status.audit.text}")
        wrong = [
            f"{organ.organ} {organ.wrong} of {organ.audited} "
            f"({percent(organ.low)} to {percent(organ.high)})"
            for organ in status.audit.organs
            if organ.wrong
        ]
        if wrong:
            print_line(f"  by organ: {', '.join(wrong)}")
    _print_noise(status, out)
    print_line(f"Predicted DSC: {status.predicted_quality}")
    if status.outliers is not None:
        print_line(f"Outliers: {status.outliers.text}")
    print_line(
        f"Yardstick of the paper: 15 minutes a volume with the procedure, 60 an organ by hand: "
        f"{status.hours_collection_by_hand:,.0f} hours for this collection. A case held longer "
        "than 60 minutes counts as 60."
    )


def not_usable(status: Status) -> Iterator[str]:
    """Yield lines on volumes that are left out, with the reason; the first of many."""
    for entry in status.not_usable[:SHOWN]:
        yield f"not usable: {entry.volume}: {entry.reason}"
    if len(status.not_usable) > SHOWN:
        yield f"and {len(status.not_usable) - SHOWN} more: `campaign status --json` has all of them"
    if status.not_usable:
        yield "`atlas8k campaign include VOLUME` lets one count again."


def print_steps(status: Status, out: Console | None = None) -> None:
    """Print the eight steps, and below them the commands of those that are due."""
    out = out or terminal()
    print_table(
        [
            {"": step.number, "step": step.name, "state": step.state, " ": step.detail}
            for step in status.steps
        ],
        left=["state"],
        fold=["step", " "],
        styles=[STYLES.get(step.state, "") for step in status.steps],
        console=out,
    )
    for step in status.steps:
        if step.command:  # on a line of its own, to be copied
            out.print(f"Step {step.number}: {step.command}", markup=False, soft_wrap=True)


def _print_rounds(status: Status, out: Console) -> None:
    """Print the rounds, a line each."""
    rows = []
    for round_ in status.rounds:
        reviewed = (
            f"{round_.reviewed - round_.audited}{f' + {round_.audited}' if round_.audited else ''}"
        )
        effort = round_.effort
        rows.append(
            {
                "round": round_.number,
                "networks": round_.model_version or "none",
                "opened": time.strftime("%Y-%m-%d", time.localtime(round_.opened_at)),
                "reviewed": reviewed + (f" of {round_.budget}" if round_.budget else ""),
                "changed": round_.changed,
                "confirmed": round_.confirmed,
                "stop rule": stop(round_),
                "hours": f"{effort.hours:.1f}" + ("*" if effort.untimed or effort.idle else ""),
                "at 15 min": f"{effort.hours_at_15:.1f}",
                "saved": decimals(effort.hours_saved, 0),
                "held-out DSC": dsc(round_.trainings[-1]) if round_.trainings else "",
                "ended by": ended(round_),
            }
        )
    left = ["networks", "opened"]
    print_table(rows, "Rounds", left=left, fold=["ended by"], console=out)


def stop(round_: RoundReport) -> str:
    """Return the state of the stop rule in a round; empty where it has no list."""
    if round_.stop is None:
        return ""
    if round_.stop.broken_at is not None:
        return f"place {round_.stop.broken_at} changed"
    return "reached" if round_.stop.reached else f"{round_.stop.in_a_row} of {round_.stop.needed}"


def ended(round_: RoundReport) -> str:
    """Return what ended a round; for an open one, its last training."""
    if round_.trainings:
        last = round_.trainings[-1]
        what = {"published": "published", "refused": "gate refused"}.get(last.verdict, last.verdict)
        return f"fine-tuning: {what}"
    return round_.closing or "open"


def dsc(training: Training) -> str:
    """Return DSC before and after, marked where it was measured on trained cases."""
    if training.dsc_before is None or training.dsc_after is None:
        return ""
    on = " (trained on)" if training.basis == "trained on" else ""
    return f"{training.dsc_before:.3f} → {training.dsc_after:.3f}{on}"


def _print_organs(round_: RoundReport, out: Console) -> None:
    """Print the changes by organ in one round."""
    print_table(
        [
            {
                "organ": organ.organ,
                "confirmed": organ.confirmed or "",
                "changed": organ.changed or "",
                "added": organ.added or "",
                "absent": organ.absent or "",
                "nothing said": organ.nothing_said or "",
                "DSC": decimals(organ.mean_dsc),
                "voxels": f"{organ.voxels_changed:,}" if organ.voxels_changed else "",
            }
            for organ in round_.organs
        ],
        f"Round {round_.number}, volumes by organ",
        left=["organ"],
        console=out,
    )


def _print_evidence(round_: RoundReport, out: Console) -> None:
    """Print whether the places shown led to what was changed, for organs with any place."""
    shown = [row for row in round_.evidence if row.volumes and (row.places or row.changed_ml)]
    if not shown:
        return
    print_table(
        [
            {
                "organ": row.organ,
                "volumes": row.volumes,
                "changed ml": f"{row.changed_ml:.1f}",
                "of it in places": percent(row.share_inside) if row.enough else "too few",
                "places": row.places,
                "with a change": percent(row.share_places) if row.enough else "too few",
                "minutes": decimals(row.minutes, 1),
            }
            for row in shown
        ],
        f"Round {round_.number}, the places shown beside what was changed",
        left=["organ"],
        console=out,
    )


def _print_quality(round_: RoundReport, out: Console) -> None:
    """Print predicted DSC beside what was found."""
    shown = [row for row in round_.quality if row.volumes]
    if not shown:
        return
    print_table(
        [
            {
                "organ": row.organ,
                "volumes": row.volumes,
                "drawn at random": row.drawn_at_random,
                "predicted DSC": decimals(row.predicted) if row.enough else "too few",
                "found": decimals(row.found),
                "mean error": decimals(row.error),
                "in the interval": percent(row.inside) if row.enough else "",
                "recalibrated": row.recalibrated,
                "of these in it": percent(row.inside_recalibrated)
                if row.inside_recalibrated is not None
                else "",
            }
            for row in shown
        ],
        f"Round {round_.number}, predicted DSC beside what was found",
        left=["organ"],
        console=out,
    )


def print_strategies(
    found: Mapping[str, Compared], seeds: int, target: Path, *, as_json: bool
) -> None:
    """Write the comparison of strategies, and print it."""
    plain = {
        name: {key: None if math.isnan(value) else value for key, value in one._asdict().items()}
        for name, one in found.items()
    }
    text = json.dumps(plain, indent=1)
    target.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
        return
    print_table(
        strategy_rows(found, seeds),
        "Mean DSC over the revisions; revisions and minutes to random_foreground's final quality, "
        "as a share of its own",
        left=["strategy"],
    )
    typer.echo(f"{target}")


def strategy_rows(found: Mapping[str, Compared], seeds: int) -> list[dict[str, str]]:
    """Return the rows of a table of strategies, the best area first."""
    return [
        {
            "strategy": name,
            "area": f"{one.area:.4f}",
            "less random's": f"{one.gain:+.4f} ± {one.gain_half:.4f}",
            "final DSC": f"{one.final:.4f}",
            "of what nobody saw": f"{one.final_unseen:.4f}",
            "wrong ml taken away": ""
            if math.isnan(one.removed)
            else f"{one.removed:.0%} ± {one.removed_half:.0%}",
            "revisions": f"{one.revisions:.2f} ± {one.revisions_half:.2f}",
            "minutes": f"{one.minutes:.2f}",
            "reached": f"{one.reached} of {seeds}",
        }
        for name, one in sorted(found.items(), key=lambda item: -item[1].area)
    ]


def _print_noise(status: Status, out: Console) -> None:
    """Print how many labels anatomical rules have something against, before and after."""
    rows = [row for row in status.label_noise if row.before or row.after]
    if not rows:
        return
    print_table(
        [
            {
                "dataset": row.dataset or "not known",
                "organ": row.organ,
                "checked": row.checked,
                "pseudo": f"{row.before} ({percent(row.before / row.checked)})",
                "now": f"{row.after} ({percent(row.after / row.checked)})",
                "rules": ", ".join(f"{rule} {n}" for rule, n in row.rules.items()),
            }
            for row in rows
        ],
        "Volumes that break an anatomical rule",
        left=["dataset", "organ", "rules"],
        fold=["rules"],
        key="organ",
        console=out,
    )


def _print_annotators(round_: RoundReport, out: Console) -> None:
    """Print the annotators of a round with their volumes and times."""
    print_table(
        [
            {
                "annotator": person.name,
                "volumes": person.volumes,
                "hours": f"{person.hours:.1f}",
                "minutes each": decimals(person.minutes_each, 1),
                "without a time": person.untimed or "",
            }
            for person in round_.annotators
        ],
        f"Round {round_.number}, annotators",
        left=["annotator"],
        console=out,
    )


def print_simulation(rounds: list[SimulatedRound]) -> None:
    """Print the label quality of a simulated campaign."""
    print_table(
        [
            {
                "round": round_.round,
                "networks": round_.model_version,
                "reviewed": round_.reviewed,
                "organs corrected": round_.organs_corrected,
                "before": decimals(round_.before.dsc),
                "revised": decimals(round_.revised.dsc if round_.revised else None),
                "after": decimals(round_.after.dsc if round_.after else None),
                "nobody saw: before": decimals(round_.before.dsc_unreviewed),
                "nobody saw: after": decimals(
                    round_.after.dsc_unreviewed if round_.after else None
                ),
                "gate": round_.training.verdict if round_.training else "",
            }
            for round_ in rounds
        ],
        "DSC of the fused labels with the truth",
        left=["networks", "gate"],
    )
    drawn = [(one.round, one.drawing) for one in rounds if one.drawing is not None]
    if not drawn:
        return
    print_table(
        [
            {
                "round": number,
                "organs": one.organs,
                "strokes": one.strokes,
                "wrong ml": f"{one.wrong_ml:,.0f}",
                "left by strokes": f"{one.left_ml:,.0f}",
                "minutes, brushed": f"{one.minutes_brushed:.0f}",
                "with strokes": f"{one.minutes_drawn:.0f}",
            }
            for number, one in drawn
        ],
        f"Minutes of correcting, {drawn[-1][1].seconds_a_stroke:g} s a stroke, ten an organ at "
        f"most, the rest brushed; {MINUTES_AN_ORGAN:g} min an organ by brush, "
        f"{MINUTES_A_VOLUME:g} a volume to look at it: assumptions",
    )


def percent(share: float | None) -> str:
    """Return a share in per cent."""
    return "?" if share is None else f"{100 * share:.0f} %"
