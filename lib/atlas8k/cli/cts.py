"""``atlas8k cts``: duplicates among CTs, and the contrast phase of each."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from atlas8k.cli.labels import As, Case
from atlas8k.cli.open_studies import acting_holder, label_service_of
from atlas8k.cli.options import AsJson, Commands, LedgerFile, Studies
from atlas8k.cli.terminal_tables import decimals, print_table

cts = Commands(help="Duplicates among CTs, and the contrast phase of each.")

KINDS = {"copy": "copies of one CT", "same_patient": "one patient, another scan or phase"}


@cts.command()
def duplicates(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    known: Annotated[bool, typer.Option("--known", help="show what was found, read no CT")] = False,
    as_json: AsJson = False,
) -> None:
    """Find CTs that are copies of one another, and CTs of one patient, by their voxels.

    Each CT is read once, from an archive over the network; those that were compared before are
    not compared again. Near-duplicates never lie on two sides of a split.
    """
    from tqdm import tqdm

    from atlas8k.services.duplicates import find_duplicates, not_compared, take_fingerprints
    from atlas8k.store import alike as stored

    with label_service_of(studies, ledger) as service:
        if known:
            with service.ledger.read() as tx:
                pairs = stored.pairs(tx)
        else:
            take_fingerprints(
                service.folder, lambda items: tqdm(items, desc="reading", unit="CT", disable=None)
            )
            pairs = find_duplicates(
                service.folder,
                lambda items: tqdm(items, desc="comparing", unit="batch", disable=None),
            )
        left_out = not_compared(service.folder)
    if as_json:
        typer.echo(json.dumps([pair._asdict() for pair in pairs], indent=1))
        return
    print_table(
        [
            {
                "one": pair.first,
                "the other": pair.second,
                "what": KINDS[pair.kind],
                "shape differs by": decimals(pair.shape, 1),
                "brightness, HU": decimals(pair.brightness, 0),
            }
            for pair in pairs
        ],
        left=["one", "the other", "what"],
    )
    typer.echo(f"{len(pairs)} pairs of near-duplicates" if pairs else "no near-duplicates")
    for name, why in left_out.items():
        typer.echo(f"not compared: {name}: {why}")


@cts.command()
def phases(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    phase: Annotated[str, typer.Option(help="only CTs of this phase")] = "",
    as_json: AsJson = False,
) -> None:
    """List the contrast phase of each CT: estimated when it was scored, or said by somebody."""
    from atlas8k.store import phases as stored

    with label_service_of(studies, ledger) as service, service.ledger.read() as tx:
        found = {n: one for n, one in stored.of_volumes(tx).items() if phase in ("", one.phase)}
    if as_json:
        typer.echo(json.dumps({name: one._asdict() for name, one in found.items()}, indent=1))
        return
    print_table(
        [
            {"case": name, "phase": one.phase, "by": "somebody" if one.said else "its HU"}
            for name, one in found.items()
        ],
        left=["case", "phase", "by"],
    )
    if not found:
        typer.echo("no CT has a phase: it is estimated when CTs are scored")


@cts.command("say-phase")
def say_phase(
    case: Case,
    phase: Annotated[str, typer.Argument(help="empty: go by the estimate again")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    name: As = "",
) -> None:
    """Say the contrast phase of a CT, in place of the estimate."""
    from atlas8k.store import phases as stored

    with label_service_of(studies, ledger) as service, service.ledger.write(durable=True) as tx:
        stored.say(tx, case, phase, acting_holder(name))
    typer.echo(f"{case}: {phase or 'as estimated'}")
