"""``atlas8k doctor``: what is wrong with a studies folder, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from atlas8k.cli.backup import ModelsOfServer
from atlas8k.cli.options import MODELS, AsJson, LedgerFile, Studies


def doctor(
    studies: Studies = ".",
    ledger: LedgerFile = None,
    models: ModelsOfServer = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="mend what can be mended; nothing is deleted")
    ] = False,
    backup: Annotated[
        Path | None,
        typer.Option(help="folder of backups to put label files back from", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a studies folder and what to do; with --fix, do it.

    Every label file is read and held against its hash, the ledger is checked,
    and the networks. With --fix altered label files are set aside and put
    back from their other copy or a backup, and a ledger that is lost or
    damaged is made anew from the label files. The server may run, unless the
    ledger is to be made anew.

    The exit code is 1 where something is wrong still.
    """
    from tqdm import tqdm

    from atlas8k.services.backups.place import Place
    from atlas8k.services.doctor import examine

    place = Place.of(studies, ledger, models, MODELS)
    found = []
    for one in examine(
        place,
        fix=fix,
        backup=backup,
        progress=lambda volumes: tqdm(volumes, desc="labels", unit="volume", disable=None),
    ):
        found.append(one)
        if as_json:
            continue
        kind = "mended" if one.done else "wrong" if one.wrong else "advice"
        typer.echo(f"{kind}: {one.what}\n    {one.done or f'to do: {one.to_do}'}")
    left = sum(one.is_left for one in found)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
    elif not left:
        typer.echo(f"{place.root}: nothing is wrong{' any more' if fix and found else ''}")
    else:
        typer.echo(f"{place.root}: {left} findings are left")
    if left:
        raise typer.Exit(1)
