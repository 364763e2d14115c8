"""A campaign's status as tables of a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from atlas8k.cli.tables import Column, number, print_table, terminal, text

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
    """Volumes that are left out and why, ids whole; the first of many."""
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
        [number(""), text("step"), Column("state"), text("")],
        [(str(one.number), one.name, one.state, one.detail) for one in found.steps],
        styles=[STYLES.get(one.state, "") for one in found.steps],
        console=out,
    )
    for one in found.steps:
        if one.command:  # on a line of its own, to be copied
            out.print(f"Step {one.number}: {one.command}", markup=False, soft_wrap=True)


def _print_rounds(found: Status, out: Console) -> None:
    """Print a line a round."""
    right = ("reviewed", "changed", "confirmed", "stop rule", "hours", "at 15 min", "saved",
             "held-out DSC")  # fmt: skip
    print_table(
        [
            number("round"),
            Column("networks"),
            Column("opened"),
            *map(number, right),
            text("ended by"),
        ],
        [
            (
                str(one.number),
                one.signature or "none",
                time.strftime("%Y-%m-%d", time.localtime(one.opened_at)),
                f"{one.reviewed - one.audited}{f' + {one.audited}' if one.audited else ''}"
                + (f" of {one.budget}" if one.budget else ""),
                str(one.changed),
                str(one.confirmed),
                stop(one),
                f"{one.effort.hours:.1f}" + ("*" if one.effort.untimed or one.effort.idle else ""),
                f"{one.effort.hours_at_15:.1f}",
                "" if one.effort.hours_saved is None else f"{one.effort.hours_saved:.0f}",
                dsc(one.trainings[-1]) if one.trainings else "",
                ended(one),
            )
            for one in found.rounds
        ],
        "Rounds",
        console=out,
    )


def stop(one: RoundReport) -> str:
    """Where the stop rule stands in a round; empty where it has no list."""
    if one.stop is None:
        return ""
    if one.stop.broken_at is not None:
        return f"place {one.stop.broken_at} changed"
    return "reached" if one.stop.reached else f"{one.stop.in_a_row} of {one.stop.needed}"


def ended(one: RoundReport) -> str:
    """What ended a round; of one that is open, what was trained in it."""
    if one.trainings:
        last = one.trainings[-1]
        what = {"published": "published", "refused": "gate refused"}.get(last.verdict, last.verdict)
        return f"fine-tuning: {what}"
    return one.closing or "open"


def dsc(one: Training) -> str:
    """Before and after, with what it was measured on where that shows nothing learned."""
    if one.dsc_before is None or one.dsc_after is None:
        return ""
    on = " (trained on)" if one.basis == "trained on" else ""
    return f"{one.dsc_before:.3f} → {one.dsc_after:.3f}{on}"


def _print_organs(one: RoundReport, out: Console) -> None:
    """Print the changes by organ in one round."""
    names = ("confirmed", "changed", "added", "absent", "nothing said", "DSC", "voxels")
    print_table(
        [Column("organ"), *map(number, names)],
        [
            (
                organ.organ,
                *(
                    str(count or "")
                    for count in (
                        organ.confirmed,
                        organ.changed,
                        organ.added,
                        organ.absent,
                        organ.nothing_said,
                    )
                ),
                "" if organ.mean_dsc is None else f"{organ.mean_dsc:.3f}",
                f"{organ.voxels_changed:,}" if organ.voxels_changed else "",
            )
            for organ in one.organs
        ],
        f"Round {one.number}, volumes by organ",
        console=out,
    )


def _print_annotators(one: RoundReport, out: Console) -> None:
    """Print who did how much."""
    names = ("volumes", "hours", "minutes each", "without a time")
    print_table(
        [Column("annotator"), *map(number, names)],
        [
            (
                person.name,
                str(person.volumes),
                f"{person.hours:.1f}",
                "" if person.minutes_each is None else f"{person.minutes_each:.1f}",
                str(person.untimed or ""),
            )
            for person in one.annotators
        ],
        f"Round {one.number}, annotators",
        console=out,
    )


def print_simulation(rounds: list[SimulatedRound]) -> None:
    """Print the label quality of a simulated campaign."""
    right = ("reviewed", "organs corrected", "before", "revised", "after", "nobody saw: before",
             "nobody saw: after")  # fmt: skip
    print_table(
        [number("round"), Column("networks"), *map(number, right), Column("gate")],
        [
            (
                str(one.round),
                one.signature,
                str(one.reviewed),
                str(one.organs_corrected),
                decimals(one.before.dsc),
                decimals(one.revised.dsc if one.revised else None),
                decimals(one.after.dsc if one.after else None),
                decimals(one.before.dsc_unreviewed),
                decimals(one.after.dsc_unreviewed if one.after else None),
                one.training.verdict if one.training else "",
            )
            for one in rounds
        ],
        "DSC of the assembled labels with the truth",
    )


def decimals(value: float | None) -> str:
    """Three decimals, nothing where unknown."""
    return "" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share in per cent."""
    return "?" if share is None else f"{100 * share:.0f} %"
