"""``atlas8k phantoms``: a folder of synthetic CTs to try things on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder for the CTs; made if missing.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the others follow.")] = 0,
    shifted: Annotated[
        bool, typer.Option("--shifted", help="Short for --setting shifted.")
    ] = False,
    setting: Annotated[
        str | None,
        typer.Option(
            help="standard (the default), shifted (no network is trained on it), or wide "
            "(bodies that spread as people do)."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder for the truth; by default FOLDER with '-truth' at its end."),
    ] = None,
) -> None:
    """Make synthetic abdominal CTs with exact truth for the nine organs.

    The same seed gives the same phantom. Complete ones that are there already are kept.
    """
    from tqdm import tqdm

    from abdomen_phantom import SHIFTED, STANDARD, WIDE, write_set
    from atlas8k.core.errors import Atlas8kError

    settings = {known.name: known for known in (STANDARD, SHIFTED, WIDE)}
    name = setting or ("shifted" if shifted else "standard")
    if name not in settings or (shifted and name != "shifted"):
        option = f"--shifted and --setting {name}" if name in settings else f"setting {name!r}"
        typer.echo(f"Error: {option}: give --setting as one of {', '.join(settings)}", err=True)
        raise typer.Exit(2)
    new = 0
    try:
        steps = write_set(folder, count, seed, settings[name], labels)
        for written in tqdm(steps, total=count, desc="phantoms", unit="CT"):
            new += written.made
    except (Atlas8kError, OSError) as err:
        typer.echo(f"Error: {err}", err=True)
        raise typer.Exit(1) from err
    typer.echo(f"{count} phantoms in {folder}: {new} made, {count - new} were there")
