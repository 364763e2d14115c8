"""``atlas8k evaluate``: measure label maps against their truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas8k.cli.options import Maps, Orientation, Tolerance, organs_in
from atlas8k.cli.terminal_tables import print_result


def evaluate(
    pred_dir: Annotated[Path, typer.Argument(metavar="PRED", help="Folder of label maps.")],
    truth_dir: Annotated[Path, typer.Argument(metavar="TRUTH", help="Folder of their truth.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for dsc.csv, nsd.csv and the tables; PRED-results by default."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the network in the tables.")] = None,
    tolerance: Tolerance = 1.0,
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
    maps: Maps = None,
    orientation: Orientation = None,
    metadata: Annotated[
        Path | None, typer.Option(help="CSV with one row a case, for --by.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Column of it: false positives by group, such as phase.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cases at a time.")] = None,
) -> None:
    """Measure DSC and NSD of every case and organ, and list what could not be measured.

    PRED and TRUTH hold <case>.nii.gz, <case>/combined_labels.nii.gz or
    <case>/segmentations/<organ>.nii.gz, organ ids 1 to 9; a truth may have a dataset's own
    values. Organs that the truth does not label do not count, whatever is predicted. Written
    are dsc.csv and nsd.csv as Touchstone has them, for `atlas8k compare`, and the tables as CSV,
    Markdown and LaTeX. Of what some cases lack, such as tumours, a second table counts the
    cases in which it was predicted all the same.
    """
    import pandas as pd
    from tqdm import tqdm

    from atlas8k.core.csv_text import frame_text
    from atlas8k.labels.datasets import find_dataset
    from atlas8k.reports.evaluate import evaluate_folder, evaluation_table
    from atlas8k.reports.false_positives import false_positive_table
    from atlas8k.reports.groups import find_column, group_by
    from atlas8k.reports.results import write_results, write_text
    from atlas8k.reports.sheets import read_sheet
    from atlas8k.reports.tables import write_tables

    if (metadata is None) != (by is None):
        raise typer.BadParameter("--metadata and --by go together")
    if maps is not None and truth_dataset is None:
        raise typer.BadParameter("--maps is for --truth-dataset, which is missing")
    people = None if metadata is None else read_sheet(metadata)  # refused before the long part
    if people is not None and by is not None:
        find_column(people, by)
    dataset = None if truth_dataset is None else find_dataset(truth_dataset, maps)
    labeled = organs_in(",".join(organs or [])) or None
    folder = out or pred_dir.resolve().with_name(f"{pred_dir.resolve().name}-results")
    with tqdm(desc="evaluate", unit="case") as bar:
        evaluation = evaluate_folder(
            pred_dir, truth_dir, network=name, tolerance_mm=tolerance,
            missing_as_zero=missing_as_zero, resampled=resample, workers=workers,
            organs=labeled, dataset=dataset,
            orientation=orientation, progress=lambda _: bar.update(),
        )  # fmt: skip
    write_results(folder / "dsc.csv", evaluation.dsc)
    write_results(folder / "nsd.csv", evaluation.nsd)
    table = evaluation_table(evaluation)
    grouping = None
    if people is not None and by is not None:
        grouping = group_by(people, by, evaluation.dsc.cases)
    false_positives = false_positive_table(evaluation, grouping)
    write_tables([table, *([false_positives] if false_positives else [])], folder / "tables")
    if evaluation.failures:
        failures = pd.DataFrame(evaluation.failures.items(), columns=["name", "reason"])
        write_text(folder / "failures.csv", frame_text(failures))
    print_result(table)
    if false_positives is not None:
        print_result(false_positives)
    for note in (*evaluation.notes, *(grouping.notes if grouping else ())):
        typer.echo(f"note: {note}")
    typer.echo(f"results: {folder}")
    if evaluation.failures:
        for case, reason in evaluation.failures.items():
            typer.echo(f"{case}: {reason}", err=True)
        raise typer.Exit(1)
