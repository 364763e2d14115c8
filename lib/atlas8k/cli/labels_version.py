"""Which version of a dataset a folder holds, and whether its numbers fit, before an import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
from tqdm import tqdm

from atlas8k.cli.labels_import import Planned
from atlas8k.labels.datasets import Dataset, DatasetMapError, known_datasets
from atlas8k.labels.survey import others_that_fit, survey, version_of, votes_text

SHOWN = 10


def chosen_version(
    name: str,
    folder: Path,
    versions: Sequence[Dataset],
    planned: Sequence[Planned],
    maps: Path | None,
    *,
    force: bool,
    jobs: int,
) -> Dataset:
    """The version to import under, once nothing in the files speaks against it.

    Parameters
    ----------
    name
        Of the dataset, as the user gave it.
    force
        Import whatever speaks against it; it is printed all the same.

    Raises
    ------
    DatasetMapError
        The version must be said, or files do not fit; nothing has been written.
    """
    files = [one for one in planned if one.outcome is None and one.volume is not None]
    paths = [one.file.path for one in files]
    # The bar shows in a terminal only.
    looked = tqdm(survey(paths, versions, jobs), total=len(paths), desc="looking", disable=None)
    looks = list(looked)
    entry = version_of(looks, versions)
    if entry is None:
        said = " or ".join(f"{version.name!r}" for version in versions)
        raise DatasetMapError(
            name,
            f"has versions with other numbers, and the files do not tell which these are "
            f"({votes_text(looks, versions)}); say which, such as "
            f"`atlas8k labels import {versions[-1].name!r} {folder} …`: {said}",
        )
    if len(versions) > 1:
        typer.echo(f"{name}: these are labels of {entry.name} ({votes_text(looks, versions)})")
    shown = {one.file.path: one.shown for one in files}
    # A value that the dataset lacks gets its own file refused; it may be that file alone.
    wrong = [one for one in looks if one.against[entry.name]]
    if not wrong:
        return entry
    lines = [f"{shown[one.path]}: {'; '.join(one.against[entry.name])}" for one in wrong]
    listing = "\n".join(f"  {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        listing += f"\n  and {len(lines) - SHOWN} more"
    if force:
        typer.echo(f"imported all the same (--force), {len(wrong)} of {len(looks)} files:")
        typer.echo(listing)
        return entry
    fitting = others_that_fit(
        [one.path for one in wrong], entry, list(known_datasets(maps).values())
    )
    advice = f"Their numbers fit {', '.join(fitting)}: give that name. " if fitting else ""
    raise DatasetMapError(
        folder,
        f"nothing was imported: as labels of {entry.name}, {len(wrong)} of {len(looks)} files "
        f"show what no patient has, or say so themselves:\n{listing}\n{advice}Where they are right "
        "as they are (situs inversus, a rare anatomy): add --force",
    )
