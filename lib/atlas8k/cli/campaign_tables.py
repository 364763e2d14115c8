"""A campaign's status as tables of a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from atlas8k.cli.tables import decimals, print_table, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from atlas8k.campaign.reports import RoundReport, Status, Training
    from atlas8k.campaign.simulation import SimulatedRound

SHOWN = 10
"""Volumes that are not usable in a terminal."""
STYLES = {"done": "green", "due": "bold yellow", "running": "cyan", "to decide": "bold green"}


def print_status(found: Status) -> None:
    """Print everything, top down."""
    out = terminal()

    def say(line: str) -> None:
        out.print(line, markup=False)

    volumes = found.volumes
    say(
        f"{volumes.total} volumes: {volumes.reviewed} reviewed, {volumes.in_hand} in hand, "
        f"{volumes.scored} scored"
        + (f", {volumes.failed} cannot be" if volumes.failed else "")
        + (f", {volumes.conflicts} in conflict" if volumes.conflicts else "")
        + (f", {volumes.excluded} not usable" if volumes.excluded else "")
        + f"; networks {found.signature or 'none'}"
    )
    for line in not_usable(found):
        say(line)
    print_steps(found, out)
    if found.rounds:
        _print_rounds(found, out)
        last = next((one for one in reversed(found.rounds) if one.reviewed), None)
        if last is not None:
            _print_organs(last, out)
            _print_annotators(last, out)
    if found.stop is not None:
        say(f"Stop rule, round {found.stop.round}: {found.stop.text}")
    if found.audit is not None:
        say(f"Audit, round {found.audit.round}: {found.audit.text}")
        wrong = [
            f"{one.organ} {one.wrong} of {one.audited} ({percent(one.low)} to {percent(one.high)})"
            for one in found.audit.organs
            if one.wrong
        ]
        if wrong:
            say(f"  by organ: {', '.join(wrong)}")
    say(
        f"Yardstick of the paper: 15 minutes a volume with the procedure, 60 an organ by hand: "
        f"{found.hours_collection_by_hand:,.0f} hours for this collection. A case held longer "
        "than 60 minutes counts as 60."
    )


def not_usable(found: Status) -> Iterator[str]:
    """Yield volumes that are left out and why, ids whole; the first of many."""
    for one in found.not_usable[:SHOWN]:
        yield f"not usable: {one.volume}: {one.reason}"
    if len(found.not_usable) > SHOWN:
        yield f"and {len(found.not_usable) - SHOWN} more: `campaign status --json` has all of them"
    if found.not_usable:
        yield "`atlas8k campaign include VOLUME` lets one count again."


def print_steps(found: Status, out: Console | None = None) -> None:
    """Print the eight steps, and below them the commands that do what is to do."""
    out = out or terminal()
    print_table(
        [
            {"": one.number, "step": one.name, "state": one.state, " ": one.detail}
            for one in found.steps
        ],
        left=["state"],
        fold=["step", " "],
        styles=[STYLES.get(one.state, "") for one in found.steps],
        console=out,
    )
    for one in found.steps:
        if one.command:  # on a line of its own, to be copied
            out.print(f"Step {one.number}: {one.command}", markup=False, soft_wrap=True)


def _print_rounds(found: Status, out: Console) -> None:
    """Print a line a round."""
    rows = []
    for one in found.rounds:
        reviewed = f"{one.reviewed - one.audited}{f' + {one.audited}' if one.audited else ''}"
        effort = one.effort
        rows.append(
            {
                "round": one.number,
                "networks": one.signature or "none",
                "opened": time.strftime("%Y-%m-%d", time.localtime(one.opened_at)),
                "reviewed": reviewed + (f" of {one.budget}" if one.budget else ""),
                "changed": one.changed,
                "confirmed": one.confirmed,
                "stop rule": stop(one),
                "hours": f"{effort.hours:.1f}" + ("*" if effort.untimed or effort.idle else ""),
                "at 15 min": f"{effort.hours_at_15:.1f}",
                "saved": decimals(effort.hours_saved, 0),
                "held-out DSC": dsc(one.trainings[-1]) if one.trainings else "",
                "ended by": ended(one),
            }
        )
    left = ["networks", "opened"]
    print_table(rows, "Rounds", left=left, fold=["ended by"], console=out)


def stop(one: RoundReport) -> str:
    """Return where the stop rule stands in a round; empty where it has no list."""
    if one.stop is None:
        return ""
    if one.stop.broken_at is not None:
        return f"place {one.stop.broken_at} changed"
    return "reached" if one.stop.reached else f"{one.stop.in_a_row} of {one.stop.needed}"


def ended(one: RoundReport) -> str:
    """Return what ended a round; of one that is open, what was trained in it."""
    if one.trainings:
        last = one.trainings[-1]
        what = {"published": "published", "refused": "gate refused"}.get(last.verdict, last.verdict)
        return f"fine-tuning: {what}"
    return one.closing or "open"


def dsc(one: Training) -> str:
    """Return DSC before and after; with its cases where that shows nothing learned."""
    if one.dsc_before is None or one.dsc_after is None:
        return ""
    on = " (trained on)" if one.basis == "trained on" else ""
    return f"{one.dsc_before:.3f} → {one.dsc_after:.3f}{on}"


def _print_organs(one: RoundReport, out: Console) -> None:
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
            for organ in one.organs
        ],
        f"Round {one.number}, volumes by organ",
        left=["organ"],
        console=out,
    )


def _print_annotators(one: RoundReport, out: Console) -> None:
    """Print who did how much."""
    print_table(
        [
            {
                "annotator": person.name,
                "volumes": person.volumes,
                "hours": f"{person.hours:.1f}",
                "minutes each": decimals(person.minutes_each, 1),
                "without a time": person.untimed or "",
            }
            for person in one.annotators
        ],
        f"Round {one.number}, annotators",
        left=["annotator"],
        console=out,
    )


def print_simulation(rounds: list[SimulatedRound]) -> None:
    """Print the label quality of a simulated campaign."""
    print_table(
        [
            {
                "round": one.round,
                "networks": one.signature,
                "reviewed": one.reviewed,
                "organs corrected": one.organs_corrected,
                "before": decimals(one.before.dsc),
                "revised": decimals(one.revised.dsc if one.revised else None),
                "after": decimals(one.after.dsc if one.after else None),
                "nobody saw: before": decimals(one.before.dsc_unreviewed),
                "nobody saw: after": decimals(one.after.dsc_unreviewed if one.after else None),
                "gate": one.training.verdict if one.training else "",
            }
            for one in rounds
        ],
        "DSC of the assembled labels with the truth",
        left=["networks", "gate"],
    )


def percent(share: float | None) -> str:
    """Return a share in per cent."""
    return "?" if share is None else f"{100 * share:.0f} %"
