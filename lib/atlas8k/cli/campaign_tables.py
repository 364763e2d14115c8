"""A campaign's status as tables of a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from atlas8k.campaign.reports import RoundReport, Status, Training
    from atlas8k.campaign.simulation import SimulatedRound

SHOWN = 10
"""Volumes that are not usable in a terminal."""
STYLES = {"done": "green", "due": "bold yellow", "running": "cyan", "to decide": "bold green"}


def lines(found: Status) -> Iterator[RenderableType]:
    """Everything, top down."""
    volumes = found.volumes
    yield (
        f"{volumes.total} volumes: {volumes.reviewed} reviewed, {volumes.in_hand} in hand, "
        f"{volumes.scored} scored"
        + (f", {volumes.failed} cannot be" if volumes.failed else "")
        + (f", {volumes.conflicts} in conflict" if volumes.conflicts else "")
        + (f", {volumes.excluded} not usable" if volumes.excluded else "")
        + f"; networks {found.signature or 'none'}"
    )
    yield from not_usable(found)
    yield steps_table(found)
    if found.rounds:
        yield rounds_table(found)
        last = next((one for one in reversed(found.rounds) if one.reviewed), None)
        if last is not None:
            yield organs_table(last)
            yield annotators_table(last)
    if found.stop is not None:
        yield f"Stop rule, round {found.stop.round}: {found.stop.text}"
    if found.audit is not None:
        yield f"Audit, round {found.audit.round}: {found.audit.text}"
        wrong = [
            f"{one.organ} {one.wrong} of {one.audited} ({percent(one.low)} to {percent(one.high)})"
            for one in found.audit.organs
            if one.wrong
        ]
        if wrong:
            yield f"  by organ: {', '.join(wrong)}"
    yield (
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


def steps_table(found: Status) -> Table:
    """The eight steps."""
    table = Table("", "step", "", "", "what does it", box=None, padding=(0, 1))
    for one in found.steps:
        style = STYLES.get(one.state, "dim")
        table.add_row(
            str(one.number), one.name, f"[{style}]{one.state}[/]", one.detail, one.command
        )
    return table


def rounds_table(found: Status) -> Table:
    """A line a round."""
    table = Table(title="Rounds", title_justify="left")
    for name in ("", "networks", "opened", "reviewed", "changed", "confirmed", "stop rule", "hours",
                 "at 15 min", "saved", "held-out DSC", "ended by"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("networks", "ended by") else "right")
    for one in found.rounds:
        audits = f" + {one.audited}" if one.audited else ""
        saved = one.effort.hours_saved
        table.add_row(
            str(one.number),
            (one.signature or "none")[:8],
            time.strftime("%Y-%m-%d", time.localtime(one.opened_at)),
            f"{one.reviewed - one.audited}{audits}" + (f" of {one.budget}" if one.budget else ""),
            str(one.changed),
            str(one.confirmed),
            stop(one),
            f"{one.effort.hours:.1f}" + ("*" if one.effort.untimed or one.effort.idle else ""),
            f"{one.effort.hours_at_15:.1f}",
            "" if saved is None else f"{saved:.0f}",
            dsc(one.trainings[-1]) if one.trainings else "",
            ended(one),
        )
    return table


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


def organs_table(one: RoundReport) -> Table:
    """Changes by organ in one round."""
    table = Table(title=f"Round {one.number}, volumes by organ", title_justify="left")
    table.add_column("organ")
    for name in ("confirmed", "changed", "added", "absent", "nothing said", "DSC", "voxels"):
        table.add_column(name, justify="right")
    for organ in one.organs:
        table.add_row(
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
    return table


def annotators_table(one: RoundReport) -> Table:
    """Who did how much."""
    table = Table(title=f"Round {one.number}, annotators", title_justify="left")
    for name in ("", "volumes", "hours", "minutes each", "without a time"):
        table.add_column(name, justify="right" if name else "left")
    for person in one.annotators:
        each = person.minutes_each
        table.add_row(
            person.name,
            str(person.volumes),
            f"{person.hours:.1f}",
            "" if each is None else f"{each:.1f}",
            str(person.untimed or ""),
        )
    return table


def simulation_table(rounds: list[SimulatedRound]) -> Table:
    """Label quality of a simulated campaign."""
    table = Table(title="DSC of the assembled labels with the truth", title_justify="left")
    for name in ("round", "networks", "reviewed", "corrected", "before", "revised", "after",
                 "nobody saw: before", "after", "gate"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("networks", "gate") else "right")
    for one in rounds:
        table.add_row(
            str(one.round),
            one.signature[:8],
            str(one.reviewed),
            f"{one.organs_corrected} organs",
            number(one.before.dsc),
            number(one.revised.dsc if one.revised else None),
            number(one.after.dsc if one.after else None),
            number(one.before.dsc_unreviewed),
            number(one.after.dsc_unreviewed if one.after else None),
            one.training.verdict if one.training else "",
        )
    return table


def number(value: float | None) -> str:
    """Three decimals, nothing where unknown."""
    return "" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share in per cent."""
    return "?" if share is None else f"{100 * share:.0f} %"
