"""``atlas8k cross``: training sets by test sets, from results or by running networks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from atlas8k.models.predict import Predictor

log = logging.getLogger(__name__)


def _runs(networks: dict[str, str], mirror: str, *, both: bool) -> list[tuple[str, str, str]]:
    """Name of the row, source and axes of every network to run."""
    if not both:
        return [(name, source, mirror) for name, source in networks.items()]
    return [
        run
        for name, source in networks.items()
        for run in ((name, source, ""), (f"{name}+{mirror}", source, mirror))
    ]


def _predictor(source: Path, mirror: str, device: str) -> Predictor:
    """Networks of a checkpoint file or of a models folder, mirrored along axes of RAS."""
    from atlas8k.models.checkpoint import load_checkpoint
    from atlas8k.models.predict import Predictor
    from atlas8k.models.store import ModelStore

    networks = (
        ModelStore(source).served() if source.is_dir() else {source.stem: load_checkpoint(source)}
    )
    return Predictor(
        networks, device=device, mirror_axes=["xyz".index(letter) for letter in mirror]
    )


def _run(
    predictor: Predictor, test: str, images: Path, labels: Path, out: Path, tolerance: float
) -> None:
    """Predict every case of a test set and write its results to ``out``."""
    import numpy as np
    from tqdm import tqdm

    from atlas8k.errors import Atlas8kError
    from atlas8k.evaluation.errors import EvaluationError
    from atlas8k.evaluation.folders import find_labels, onto_truth, read_case
    from atlas8k.evaluation.overlap import dsc
    from atlas8k.evaluation.pictures import find_ct
    from atlas8k.evaluation.results import Results, write_results
    from atlas8k.evaluation.surface import nsd
    from atlas8k.organs import ORGAN_NAMES
    from atlas8k.volume import Volume, read_ct

    rows: dict[str, tuple[Any, ...]] = {}
    for case, path in tqdm(find_labels(labels).items(), desc=f"{out.parent.name} on {test}"):
        ct_path = find_ct(images, case)
        try:
            if ct_path is None:
                raise EvaluationError(images, f"has no CT of {case}")
            ct = read_ct(ct_path)
            prediction = predictor.predict(ct)
            label = prediction.label_on(ct.grid)
            pred, truth = onto_truth(Volume(label, ct.grid, ct_path), read_case(path))
            surface = nsd(pred.array, truth.array, truth.grid.spacing, tolerance)
            # An organ that no network has an output for is not a class of theirs, not a miss.
            known = prediction.covered.any(axis=0)
            rows[case] = tuple(
                np.where(known, values, np.nan)
                for values in (dsc(pred.array, truth.array), surface)
            )
        except Atlas8kError as err:
            log.error("%s is left out: %s", case, err)
    if not rows:
        raise EvaluationError(labels, f"no case of {test} could be run")
    for n, metric in enumerate(("dsc", "nsd")):
        values = np.stack([row[n] for row in rows.values()])
        write_results(
            out / f"{metric}.csv",
            Results(out.parent.name, metric, tuple(rows), ORGAN_NAMES, values),
        )


def cross(
    results: Annotated[
        Path, typer.Argument(help="Folder with <train>/<test>/dsc.csv and nsd.csv.")
    ],
    train: Annotated[
        list[str] | None,
        typer.Option(help="NAME=CHECKPOINT.safetensors or NAME=MODELS_FOLDER: run this first."),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="NAME=CT_FOLDER,LABEL_FOLDER: run on this set.")
    ] = None,
    mirror: Annotated[
        str,
        typer.Option(
            help="Mirror inputs along these axes of RAS when running, e.g. xyz; none by default. "
            "x swaps left and right: only for networks trained with that."
        ),
    ] = "",
    both: Annotated[
        bool, typer.Option("--both", help="With --mirror: also without, rows NAME and NAME+yz.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Of NSD when running, mm.")] = 1.0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1")] = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="Folder for page and tables; RESULTS-cross by default.")
    ] = None,
) -> None:
    """A-Eval's matrix: every training set on every test set, over the classes they share.

    With --train and --test the networks are run first and their results written to RESULTS.
    """
    from atlas8k.cli.options import named
    from atlas8k.cli.tables import print_result
    from atlas8k.evaluation.cross import cross_table, read_cross
    from atlas8k.evaluation.errors import EvaluationError
    from atlas8k.evaluation.report import write_table_page
    from atlas8k.evaluation.tables import write_tables

    networks, sets = named(train or [], "--train"), named(test or [], "--test")
    if bool(networks) != bool(sets):
        raise typer.BadParameter("--train and --test go together")
    if set(mirror) - set("xyz") or len(set(mirror)) < len(mirror):
        raise typer.BadParameter(f"{mirror!r} is not some of xyz", param_hint="--mirror")
    if both and not mirror:
        raise typer.BadParameter("--both goes with --mirror")
    for name, source, axes in _runs(networks, mirror, both=both):
        predictor = _predictor(Path(source), axes, device)
        for test_name, folders in sets.items():
            images, sign, labels = folders.partition(",")
            if not sign:
                raise typer.BadParameter(f"{folders!r} is not CT_FOLDER,LABEL_FOLDER")
            where = results / name / test_name
            _run(predictor, test_name, Path(images), Path(labels), where, tolerance)
    tables, notes = [], []
    for metric in ("dsc", "nsd"):
        try:
            matrix = read_cross(results, metric)
        except EvaluationError:
            if metric == "dsc":
                raise
            typer.echo("no NSD: RESULTS has no <train>/<test>/nsd.csv")
            continue
        tables.append(cross_table(matrix))
        notes += [f"{metric.upper()}: {note}" for note in matrix.notes]
    folder = out or results.resolve().with_name(f"{results.resolve().name}-cross")
    write_tables(tables, folder / "tables")
    page = write_table_page(
        folder / "cross.html", tables, title="Training sets by test sets", notes=notes
    )
    for table in tables:
        print_result(table)
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo(f"page: {page}; tables in {folder / 'tables'}")
