"""``atlas8k evaluate``: label maps against their truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


def _organs(texts: Sequence[str]) -> list[str]:
    """Organs by name or alias, separated by commas or given one by one."""
    from atlas8k.organs import ORGAN_NAMES, find_organ

    found = []
    for text in ",".join(texts).split(","):
        organ = find_organ(text)
        if organ is None:
            raise typer.BadParameter(
                f"{text.strip()!r} is no organ; organs are {', '.join(ORGAN_NAMES)}",
                param_hint="--organs",
            )
        found.append(organ.name)
    return found


def evaluate(
    pred_dir: Annotated[Path, typer.Argument(metavar="PRED", help="Folder of label maps.")],
    truth_dir: Annotated[Path, typer.Argument(metavar="TRUTH", help="Folder of their truth.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for dsc.csv, nsd.csv and the tables; PRED-results by default."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the network in the tables.")] = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Of NSD, mm.")] = 1.0,
    missing_as_zero: Annotated[
        bool, typer.Option("--missing-as-zero", help="A case without a prediction counts as 0.")
    ] = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Take predictions on other grids than the truth's.")
    ] = False,
    organs: Annotated[
        list[str] | None,
        typer.Option(help="Organs that the truth labels, by comma; else those it has."),
    ] = None,
    truth_dataset: Annotated[
        str | None,
        typer.Option(help="Dataset whose values the truth has (atlas8k labels datasets)."),
    ] = None,
    maps: Annotated[Path | None, typer.Option(help="YAML with datasets of your own.")] = None,
    orientation: Annotated[
        str | None,
        typer.Option(help="Axes of files that do not say how theirs run: RAS, LPS, …"),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cases at a time.")] = None,
) -> None:
    """Measure DSC and NSD of every case and organ, and tell what could not be measured.

    PRED and TRUTH hold <case>.nii.gz, <case>/combined_labels.nii.gz or
    <case>/segmentations/<organ>.nii.gz, organ ids 1 to 9; a truth may have a dataset's own
    values. What is predicted of organs that the truth does not label is not counted. Written
    are dsc.csv and nsd.csv as Touchstone has them, for `atlas8k compare`, and the table as CSV,
    Markdown and LaTeX.
    """
    from tqdm import tqdm

    from atlas8k.cli.tables import print_result
    from atlas8k.evaluation.evaluate import evaluate_folder, evaluation_table
    from atlas8k.evaluation.results import csv_text, write_results, write_text
    from atlas8k.evaluation.tables import write_tables
    from atlas8k.geometry import check_stated
    from atlas8k.labels.datasets import find_dataset

    try:
        stated = None if orientation is None else check_stated(orientation)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--orientation") from error
    if maps is not None and truth_dataset is None:
        raise typer.BadParameter("--maps is for --truth-dataset, which is missing")
    dataset = None if truth_dataset is None else find_dataset(truth_dataset, maps)
    labeled = None if organs is None else _organs(organs)
    folder = out or pred_dir.resolve().with_name(f"{pred_dir.resolve().name}-results")
    with tqdm(desc="evaluate", unit="case") as bar:
        found = evaluate_folder(
            pred_dir, truth_dir, network=name, tolerance_mm=tolerance,
            missing_as_zero=missing_as_zero, resampled=resample, workers=workers,
            organs=labeled, dataset=dataset, stated=stated,
            progress=lambda _: (bar.update(), None)[1],
        )  # fmt: skip
    write_results(folder / "dsc.csv", found.dsc)
    write_results(folder / "nsd.csv", found.nsd)
    table = evaluation_table(found)
    write_tables([table], folder / "tables")
    if found.failures:
        rows = [[case, reason] for case, reason in found.failures.items()]
        write_text(folder / "failures.csv", csv_text(["name", "reason"], rows))
    print_result(table)
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"results: {folder}")
    if found.failures:
        for case, reason in found.failures.items():
            typer.echo(f"{case}: {reason}", err=True)
        raise typer.Exit(1)
