"""``atlas8k labels rejected`` and ``accept``: labels that were set aside, and back again."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from atlas8k.cli.labels import labels
from atlas8k.cli.labels_history import AsJson, Case, desk_of, moment
from atlas8k.cli.options import LedgerFile, Studies


@labels.command()
def rejected(studies: Studies = ".", ledger: LedgerFile = None, as_json: AsJson = False) -> None:
    """Labels that were in labels/final and failed the checks, with the reason of each."""
    with desk_of(studies, ledger) as desk:
        waiting = desk.existing.waiting()
    if as_json:
        typer.echo(json.dumps([{**dataclasses.asdict(o), "path": str(o.path)} for o in waiting]))
        return
    for one in waiting:
        typer.echo(f"{one.volume}  set aside {moment(one.at)}  {one.path}\n    {one.reason}")
    typer.echo(f"{len(waiting)} labels were set aside" if waiting else "no label was set aside")


@labels.command()
def accept(
    case: Case,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    values: Annotated[
        str | None,
        typer.Option("--map", help="what its values are: 1=liver,2=kidney_left,3=none"),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="take it although its organs look impossible, networks made it, or its "
            "header is less than a voxel off the CT's",
        ),
    ] = False,
) -> None:
    """Put a label that was set aside in force; the file itself stays where it is."""
    from atlas8k.server.desk.existing_labels import Reading, parse_values

    try:
        mapping = None if values is None else parse_values(values.split(","))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from error
    with desk_of(studies, ledger) as desk:
        booked = desk.existing.accept(case, Reading(mapping, force))
        organs = desk.ledger.changes(booked.id)
    said = [f"{organ} {one.state}" for organ, one in organs.items() if one.state != "not_assessed"]
    typer.echo(f"{case}: accepted as submission {booked.id} ({', '.join(said)})")
