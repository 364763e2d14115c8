"""``atlas8k review``: decide conflicts, disputes, second readings and samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from atlas8k.cli.labels import As, Case, summary
from atlas8k.cli.open_studies import acting_holder, label_service_of, local_time
from atlas8k.cli.options import AsJson, Commands, LedgerFile, Names, Studies, organs_in
from atlas8k.cli.terminal_tables import print_table

review = Commands(help="Decide what a reviewer has to decide.")

MEANING = {
    "conflict": "two people submitted it; the first is current",
    "dispute": "a submission changes this public organ",
    "double_read": "two people read it on purpose and differ",
    "sample": "picked for a look",
}


@review.command("list")
def list_(studies: Studies = ".", ledger: LedgerFile = None, as_json: AsJson = False) -> None:
    """List the open questions, oldest first. In 3D Slicer: strategy `review`."""
    with label_service_of(studies, ledger) as label_service:
        queue = label_service.reviews.queue()
    if as_json:
        typer.echo(json.dumps(queue, indent=1))
        return
    print_table(
        [
            {
                "case": question["volume"],
                "question": MEANING[question["kind"]],
                "organ": question["organ"],
                "submission": question["submission"],
                "current": question["other"],
                "since": local_time(question["opened_at"]),
            }
            for question in queue["open"]
        ],
        left=["case", "organ", "since"],
        fold=["question"],
    )
    if not queue["open"]:
        typer.echo("Nothing to decide.")
    for question in queue["second_readings"]:
        more = f"; {question['anonymous']}" if question["anonymous"] else ""
        typer.echo(f"{question['volume']}: waits for a second reader{more}")
    for question in queue["returned"]:
        typer.echo(
            f"{question['volume']}: waits for {question['to'] or 'anybody'}: {question['note']}"
        )


@review.command()
def gold(
    known: Annotated[
        Path, typer.Argument(help="folder of known labels, NAME.nii.gz, outside the studies")
    ],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    names: Names = False,
    tolerance_mm: Annotated[float, typer.Option(help="of the surface Dice", min=0.0)] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Measure each annotator by labels that you know, organ by organ.

    Put the CTs among the others and the labels where only you can read them. A server that is
    started with `--conf gold` mixes them in with each annotator's samples.
    """
    from atlas8k.services.gold import measure

    with label_service_of(studies, ledger) as label_service:
        lines = measure(label_service, known, names=names, tolerance_mm=tolerance_mm)
    if as_json:
        typer.echo(json.dumps([one._asdict() for one in lines], indent=1))
        return
    print_table(
        [{**one._asdict(), "dsc": f"{one.dsc:.3f}", "nsd": f"{one.nsd:.3f}"} for one in lines],
        left=["annotator", "organ"],
    )
    if not lines:
        typer.echo("Nobody has submitted one of these volumes yet.")


@review.command()
def show(
    case: Case, studies: Studies = ".", ledger: LedgerFile = None, as_json: AsJson = False
) -> None:
    """Show everything about one case that a decision may rest on."""
    with label_service_of(studies, ledger) as label_service:
        record = label_service.reviews.case(case)
        changes = {
            revision.submission.id: revision.organs
            for revision in label_service.reviews.history(case)
        }
    if as_json:
        typer.echo(json.dumps(record, indent=1))
        return
    typer.echo(f"{case}: {record['status']}")
    for submission in record["submissions"]:
        typer.echo(
            f"{'*' if submission['in_force'] else ' '} {submission['id']}: {submission['holder']}, "
            f"{local_time(submission['submitted_at'])}: "
            f"{summary(changes[submission['id']])}\n    {submission['file']}"
        )
    for pair in record["agreement"]:
        values = ", ".join(
            f"{organ} {change['dsc']:.3f}"
            for organ, change in pair["organs"].items()
            if change["dsc"] is not None
        )
        typer.echo(f"DSC of {pair['first']} and {pair['second']}: {values}")
    for organ, source in record["organs"].items():
        disputed = ", DISPUTED" if source["disputed"] else ""
        typer.echo(f"{organ}: {source['source']}, {source['state']}{disputed}")
    for question in record["reviews"]:
        typer.echo(f"{_question(question)}: {_answer(question)}")


def _question(review: dict[str, Any]) -> str:
    return f"{MEANING[review['kind']]}{' (' + review['organ'] + ')' if review['organ'] else ''}"


def _answer(review: dict[str, Any]) -> str:
    if review["closed_at"] is None:
        return "open"
    note = f" ({review['note']})" if review["note"] else ""
    reviewer, closed = review["reviewer"] or "by itself", local_time(review["closed_at"])
    return f"{review['decision']}, {reviewer}, {closed}{note}"


@review.command()
def accept(case: Case, studies: Studies = ".", ledger: LedgerFile = None, name: As = "") -> None:
    """Accept the current submission; disputes are left for `decide`."""
    with label_service_of(studies, ledger) as label_service:
        left = label_service.reviews.accept(case, acting_holder(name).key)
    typer.echo(f"{case}: accepted")
    for review in left:
        typer.echo(f"{case}: still open: {MEANING[review.kind]} ({review.organ})")


@review.command("return")
def return_(
    case: Case,
    note: Annotated[str, typer.Option(help="what is to be done; comes with the case")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    anybody: Annotated[bool, typer.Option(help="not only to who submitted it")] = False,
    name: As = "",
) -> None:
    """Give a case back to who submitted it, with a note; its questions are closed."""
    with label_service_of(studies, ledger) as label_service:
        to = label_service.reviews.give_back(
            case, acting_holder(name).key, note, to_anybody=anybody
        )
    typer.echo(f"{case}: returned to {to or 'anybody'}")


@review.command("ask-again")
def ask_again(case: Case, studies: Studies = ".", ledger: LedgerFile = None, name: As = "") -> None:
    """Undo the latest decision: its questions are open again, the current label stays."""
    with label_service_of(studies, ledger) as label_service:
        opened = label_service.reviews.ask_again(case, acting_holder(name).key)
    for question in opened:
        organ = f" ({question.organ})" if question.organ else ""
        typer.echo(f"{case}: to decide: {MEANING[question.kind]}{organ}")


@review.command("take-over")
def take_over(
    case: Case,
    file: Annotated[
        Path | None, typer.Argument(help="your label of it; without one, the case is yours now")
    ] = None,
    looked_at: Annotated[
        list[str] | None,
        typer.Option(help="organ that you looked at and left as it was, or `all`; repeat"),
    ] = None,
    volume_is_right: Annotated[
        list[str] | None, typer.Option(help="organ whose unusual volume is right; repeat")
    ] = None,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    name: As = "",
) -> None:
    """Answer every question of a case by a label of your own, given here or in 3D Slicer.

    Organs that it leaves as they were are not assessed, unless --looked-at names them.
    """
    from atlas8k.core.errors import VolumeError
    from atlas8k.labels.submission_diff import ALL

    holder = acting_holder(name)
    with label_service_of(studies, ledger) as label_service:
        lease = label_service.reviews.take_over(case, holder)
        if file is None:
            typer.echo(f"{case}: yours; submit it as {holder.key} to decide it")
            return
        try:
            statement = {
                "looked_at": ALL if looked_at == [ALL] else looked_at or [],
                "volume_is_right": volume_is_right or [],
            }
            receipt = label_service.submit(case, file, holder, statement, lease=lease)
        except VolumeError:
            label_service.ledger.release(case, holder)
            raise
    typer.echo(f"{case}: submission {receipt.submission.id} is current; {receipt.recorded}")


@review.command()
def decide(
    case: Case,
    submission: Annotated[int | None, typer.Option(help="the one to be current")] = None,
    organ: Annotated[str | None, typer.Option(help="a disputed organ ...")] = None,
    source: Annotated[str | None, typer.Option(help="... is public or revised")] = None,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    name: As = "",
) -> None:
    """Decide a conflict (--submission N) or a dispute (--organ liver --source public)."""
    if (submission is None) == (organ is None) or (organ is None) != (source is None):
        raise typer.BadParameter("give --submission N, or --organ and --source")
    with label_service_of(studies, ledger) as label_service:
        if submission is not None:
            label_service.reviews.decide_submission(case, submission, acting_holder(name).key)
            typer.echo(f"{case}: submission {submission} is current")
        elif organ is not None and source is not None:
            named = organs_in(organ, "--organ")
            if len(named) != 1:
                raise typer.BadParameter("--organ is one organ")
            if source not in ("public", "revised"):
                raise typer.BadParameter("--source is public or revised")
            label_service.reviews.decide_organ(case, named[0], source, acting_holder(name).key)
            typer.echo(f"{case}: {named[0]} is {source}")
        for open_review in label_service.ledger.reviews(case):
            typer.echo(f"{case}: still open: {_question(open_review.__dict__)}")


@review.command("by-organ")
def by_organ(
    case: Case,
    first: Annotated[str, typer.Option(help="number of a submission, `public` or `pseudo`")],
    second: Annotated[str, typer.Option(help="as --first")],
    counts: Annotated[
        list[str], typer.Option(help="ORGAN=first or ORGAN=second; repeat, for all that differ")
    ],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    name: As = "",
) -> None:
    """Take each organ from one of two labels; what comes of it is your submission."""
    from atlas8k.services.labels.by_organ import SIDES, decide_by_organ

    chosen = {}
    for one in counts:
        organ, _, side = one.partition("=")
        if side not in SIDES:
            raise typer.BadParameter(f"--counts {one}: ORGAN=first or ORGAN=second is needed")
        chosen.update(dict.fromkeys(organs_in(organ, "--counts"), SIDES[side]))
    with label_service_of(studies, ledger) as label_service:
        holder = acting_holder(name)
        found = decide_by_organ(label_service, case, (first, second), chosen, holder)
    receipt = found.receipt
    current = "is current" if receipt.is_current else "is one more to decide about"
    typer.echo(f"{case}: submission {receipt.submission.id} {current}; {receipt.recorded}")
    for organ, ml in found.lost_ml.items():
        typer.echo(f"{case}: {organ} lost {ml:.2f} ml to another organ that claims it, too")
