"""``atlas8k backup`` and ``atlas8k restore``: a campaign kept on another disk, and brought back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas8k.cli.open_studies import existing_ledger
from atlas8k.cli.options import MODELS, LedgerFile, Studies

ModelsOfServer = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="folder of checkpoints, where it is not the one that the server was started with",
        show_default=False,
    ),
]


def backup(
    target: Annotated[Path, typer.Argument(help="folder of backups, on another disk; made")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    models: ModelsOfServer = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="read what earlier backups have, too")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", min=1, help="delete all but so many of the last backups", show_default="all"
        ),
    ] = None,
) -> None:
    """Back up a campaign: ledger, every label version, published networks, settings.

    The server may go on meanwhile. What an earlier backup in that folder has
    is not copied again; every file is read again after it was written. CTs
    are not backed up, nor are the networks that come with the program.

    The exit code is 1 where a label file is not what was kept, and no copy
    of it was found; all others are backed up.
    """
    from tqdm import tqdm

    from atlas8k.services.backups.make import make_backup
    from atlas8k.services.backups.place import Place

    place = Place.of(studies, existing_ledger(studies, ledger), models, MODELS)
    made = make_backup(
        target,
        place,
        verify=verify,
        keep=keep,
        progress=lambda files: tqdm(files, desc="backup", unit="file", disable=None),
    )
    for sha256 in made.altered:
        typer.echo(f"{sha256}: was altered in {target}; moved to {target / 'damaged'}", err=True)
    for path, reason in made.backup.damaged.items():
        typer.echo(f"{path}: {reason}; see atlas8k doctor", err=True)
    typer.echo(
        f"{target}: backup {made.backup.name}, {len(made.backup.entries)} files, of which "
        f"{made.copied} are new ({made.copied_bytes / 1e6:.1f} MB)"
    )
    if made.gone:
        typer.echo(f"{len(made.gone)} earlier backups were deleted, the last of {made.gone[-1]}")
    if made.backup.damaged:
        raise typer.Exit(1)


def restore(
    source: Annotated[Path, typer.Argument(help="folder of backups")],
    studies: Annotated[
        str, typer.Option(help="folder of CTs to restore into, made; or the archive's URL")
    ] = ".",
    ledger: LedgerFile = None,
    models: ModelsOfServer = None,
    at: Annotated[
        str | None, typer.Option(help="which backup, see --list; the last one by default")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="move aside what is there and not of this backup")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="list the backups, restore none")] = False,
) -> None:
    """Restore a campaign from a backup: on this machine or another, on any path.

    Every file is held against its hash. A place that holds something else is
    refused without --replace; nothing is ever deleted. A restore that was
    interrupted goes on when it is started again.

    The exit code is 1 where the backup has a file not as it was; all others
    are restored.
    """
    from tqdm import tqdm

    from atlas8k.services.backups.place import Place
    from atlas8k.services.backups.restore import restore_backup
    from atlas8k.services.backups.target import BackupTarget

    if list_:
        shelf = BackupTarget(source)
        for name in shelf.names():
            one = shelf.read(name)
            typer.echo(f"{name}  {len(one.entries)} files of {one.studies}, atlas8k {one.release}")
        return
    place = Place.of(studies, ledger, models, MODELS)
    done = restore_backup(
        source,
        place,
        name=at,
        replace=replace,
        progress=lambda files: tqdm(files, desc="restore", unit="file", disable=None),
    )
    for path in done.aside:
        typer.echo(f"What was there before: {path}")
    for name, reason in done.damaged.items():
        typer.echo(f"{name}: {reason}", err=True)
    for note in done.notes:
        typer.echo(note)
    typer.echo(f"{place.root}: backup {done.backup.name} is restored, {done.files} files")
    conf = "".join(f" --conf {key} {value}" for key, value in done.backup.conf.items())
    if conf:
        typer.echo(f"Its server was started with{conf}")
    if done.damaged:
        raise typer.Exit(1)
