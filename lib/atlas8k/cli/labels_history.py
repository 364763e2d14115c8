"""``atlas8k labels history``, ``restore`` and ``reopen``: what was submitted, and back to it."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas8k.cli.labels import labels
from atlas8k.cli.options import LedgerFile, Studies, existing_ledger

if TYPE_CHECKING:
    from atlas8k.ledger import Holder, OrganChange
    from atlas8k.server.desk.service import LabelService

Case = Annotated[str, typer.Argument(help="the CT's name, without .nii.gz")]
As = Annotated[str, typer.Option("--as", help="who you are, for the records")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON")]


@contextmanager
def desk_of(studies: str | Path, ledger: Path | None) -> Iterator[LabelService]:
    """The labels of studies that a server has used.

    Raises
    ------
    LedgerError
        There is no ledger yet.
    """
    from atlas8k.server.desk.service import LabelService

    desk = LabelService.open(studies, existing_ledger(studies, ledger))
    try:
        yield desk
    finally:
        desk.close()


def who(name: str) -> Holder:
    """The holder a command acts as: a name given, or the user of this computer."""
    from atlas8k.ledger import Holder

    return Holder.identify(user=name or getpass.getuser())


def moment(seconds: float | None) -> str:
    """UTC seconds as a date and time of day, local."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def summary(organs: Mapping[str, OrganChange]) -> str:
    """What a submission says, shortest form: changed organs with their DSC first."""
    from atlas8k.ledger.records import OLDER_RULE

    changed = [
        f"{organ} {'absent' if one.state == 'absent' else f'{one.dsc or 0:.3f}'}"
        for organ, one in organs.items()
        if one.state in ("revised", "absent")
    ]
    confirmed = sum(one.state == "confirmed" for one in organs.values())
    parts = [", ".join(changed) or "nothing changed"]
    if confirmed:
        older = any(one.note == OLDER_RULE for one in organs.values())
        parts.append(f"{confirmed} confirmed{' (older rule)' if older else ''}")
    asked = [organ for organ, one in organs.items() if one.state == "not_assessed" and one.note]
    if asked:
        parts.append(f"asked about {', '.join(asked)}")
    return "; ".join(parts) if organs else ""


@labels.command()
def history(
    case: Case, studies: Studies = ".", ledger: LedgerFile = None, as_json: AsJson = False
) -> None:
    """Every submission of a case: who, when, minutes, what changed; * is the one in force.

    Figures are the DSC of an organ before and after.
    """
    with desk_of(studies, ledger) as desk:
        revisions = desk.reviews.history(case)
        sources = desk.ledger.sources(case)
    if as_json:
        from dataclasses import asdict

        typer.echo(
            json.dumps(
                {
                    "case": case,
                    "history": [
                        {
                            **asdict(one.submission),
                            "in_force": one.in_force,
                            "organs": {o: c._asdict() for o, c in one.organs.items()},
                        }
                        for one in revisions
                    ],
                    "organs": {o: one._asdict() for o, one in sources.items()},
                },
                indent=1,
            )
        )
        return
    if not revisions:
        typer.echo(f"{case}: nobody has submitted it yet")
    else:
        from atlas8k.cli.tables import Column, number, print_table, text

        print_table(
            [
                Column(""),
                number("no."),
                Column("who"),
                Column("when"),
                number("min"),
                text("what it is"),
                text("organs"),
            ],
            [
                (
                    "*" if one.in_force else "",
                    str(one.submission.id),
                    one.submission.holder,
                    moment(one.submission.submitted_at),
                    "" if one.submission.minutes is None else f"{one.submission.minutes:.0f}",
                    _kind(one),
                    summary(one.organs),
                )
                for one in revisions
            ],
            key=2,
        )
    for organ, source in sources.items():
        words = [
            source.source,
            source.state,
            source.dataset or "",
            "DISPUTED"[: 8 * source.disputed],
        ]
        typer.echo(f"{organ}: {' '.join(word for word in words if word)}")


def _kind(one: Any) -> str:
    kept = one.submission
    if kept.restored is not None:
        return f"{kept.restored} restored"
    words = {"double_read": "second reading", "review": "reviewer's"}.get(kept.purpose, "")
    flags = [words, "late" * kept.late, "conflict" * kept.conflict]
    flags.append("" if one.file else "file is gone")
    return ", ".join(flag for flag in flags if flag)


@labels.command()
def restore(
    case: Case,
    number: Annotated[int, typer.Argument(help="of the submission, see `labels history`")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    name: As = "",
) -> None:
    """Put an earlier submission in force again; nothing is lost. The server may run."""
    with desk_of(studies, ledger) as desk:
        restored = desk.reviews.restore(case, number, who(name))
    typer.echo(f"{case}: submission {number} is in force, as number {restored.id}")


@labels.command()
def reopen(
    case: Case,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    note: Annotated[str, typer.Option(help="comes with the case")] = "",
    to: Annotated[str, typer.Option(help="only to this holder, as `labels history` names it")] = "",
    name: As = "",
) -> None:
    """Give a submitted case out again, before all others, with its last revision on it."""
    with desk_of(studies, ledger) as desk:
        desk.reviews.reopen(case, to=to or None, note=note, reviewer=who(name).key)
    typer.echo(f"{case}: open again, for {to or 'the next who asks'}")
