"""``atlas8k labels``: public labels into a studies folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from atlas8k.cli.options import Commands, FolderOfStudies, LedgerFile, folder_only
from atlas8k.errors import Atlas8kError

labels = Commands(
    help="Labels of a studies folder: public ones imported, the history of submitted ones."
)

Maps = Annotated[
    Path | None,
    typer.Option(help="YAML file with datasets of your own, in the form of datasets.yaml"),
]


@labels.command()
def datasets(maps: Maps = None) -> None:
    """The datasets that `labels import` knows, with the organs each labels."""
    from atlas8k.cli.tables import Column, print_table, text
    from atlas8k.labels.datasets import known_datasets
    from atlas8k.organs import N_ORGANS

    rows = []
    for dataset in known_datasets(maps).values():
        remarks = []
        if dataset.kidneys_together:
            remarks.append("kidneys are told apart")
        if dataset.family:
            remarks.append(f"a version of {dataset.family}")
        if dataset.per_case:
            remarks.append("organs differ from case to case")
        organs = ", ".join(dataset.organs) or "none of the nine"
        if len(dataset.organs) == N_ORGANS:
            organs = "all nine"
        rows.append((dataset.name, ", ".join(dataset.also), organs, "; ".join(remarks)))
    print_table([Column("dataset"), text("also"), text("organs"), text("remarks")], rows)


@labels.command("import")
def import_(
    dataset: Annotated[str, typer.Argument(help="its name, see `atlas8k labels datasets`")],
    folder: Annotated[
        Path, typer.Argument(help="its label files, in the layout it is downloaded in")
    ],
    studies: FolderOfStudies,
    ledger: LedgerFile = None,
    maps: Maps = None,
    match: Annotated[
        list[str] | None,
        typer.Option(help=r"REGEX=NAME: the CT of the label files whose name fits; \1 is a group"),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="only CTs whose names start so, by the rest of their names")
    ] = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="import although organs are impossible or names contradict"),
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="read and check all files, keep nothing")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="files to read at a time")] = 1,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.45,
            help="voxels that the dataset's headers are known to be off the CTs' at a corner; "
            "snapped, and noted for each file",
        ),
    ] = 0.05,
    orientation: Annotated[
        str | None,
        typer.Option(
            help="how the axes of label files run whose headers do not say it, such as RAS or "
            "LPS; they must cover the whole CT",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="CSV of every file: organs, reasons, what to look at")
    ] = None,
) -> None:
    r"""Bring a public dataset's labels to the CTs they belong to.

    An organ the dataset labels becomes public: it goes before pseudo
    labels and is not ranked by. One it labels and has no voxels of is
    absent; one it does not label is unknown. The server may run meanwhile;
    a file that was imported before and has not changed is left alone.

    A label file is matched to a CT by its name, or that of its folder: the
    same name; the dataset's own way (label0001 and PANCREAS_0001); the same
    name without words such as label, seg, img, volume and 0000
    (segmentation-0 and volume-0). It must lie on the CT's grid, turned or
    cropped at most.

    All files are looked at before the first is imported: where organs come
    out that no patient has (a pancreas of the aorta's shape), or names in a
    header contradict the dataset's numbers, nothing is imported. A dataset
    with several versions (TotalSegmentator, FLARE) is told by its files, or
    asked for.

    The exit code is 1 where a file was refused, or none had a CT.
    """
    from tqdm import tqdm

    from atlas8k.cli.labels_import import Importer, plan, write_report
    from atlas8k.cli.labels_version import chosen_version
    from atlas8k.geometry import check_stated
    from atlas8k.labels.datasets import DatasetMapError, find_versions
    from atlas8k.labels.matching import Matcher, find_label_files, parse_rule
    from atlas8k.server.studies.names import IMAGE_SUFFIXES
    from atlas8k.server.studies.scan import scan_images

    folder_only(
        studies, "public labels are matched with the file names of a folder of CTs: give that"
    )
    versions = find_versions(dataset, maps)
    if not any(version.organs for version in versions):
        raise DatasetMapError(versions[0].name, "labels none of the nine organs; nothing to import")
    try:
        rules = [parse_rule(text) for text in match or []]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--match") from error
    try:
        stated = None if orientation is None else check_stated(orientation)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--orientation") from error
    for place, what in ((folder, "label files"), (studies, "CTs")):
        if not place.is_dir():
            raise Atlas8kError(f"{place}: there is no such folder of {what}")
    if report is not None and not report.absolute().parent.is_dir():
        raise Atlas8kError(f"{report}: its folder does not exist; make it first")
    found = find_label_files(folder)
    if not found.files:
        raise Atlas8kError(f"{folder}: holds no label file (.nii, .nii.gz), nor do case folders")
    volumes = scan_images(studies, IMAGE_SUFFIXES).files
    own_rules = [rule for version in versions for rule in version.match]
    matcher = Matcher(volumes, prefix=prefix, rules=rules, own_rules=own_rules)
    planned = plan(found, folder, matcher)
    entry = chosen_version(dataset, folder, versions, planned, maps, force=force, jobs=jobs)
    importer = Importer(studies, ledger, entry, dry_run, tolerance, stated)
    outcomes = []
    # The bar shows in a terminal only; files are listed above it.
    with tqdm(total=len(planned), desc=entry.name, unit="file", disable=None) as bar:
        for outcome in importer.run(planned, jobs):
            outcomes.append(outcome)
            tqdm.write(outcome.line(dry_run=dry_run))
            bar.update()
    counts = Counter(outcome.result for outcome in outcomes)
    summary = [
        f"{counts['imported']} {'to import' if dry_run else 'imported'}",
        f"{counts['unchanged']} unchanged",
        f"{counts['skipped']} skipped (no CT)",
        f"{counts['refused']} refused",
    ]
    if found.images:
        summary.append(f"{len(found.images)} images passed over")
    warned = Counter(rule for outcome in outcomes for rule in outcome.rules)
    typer.echo(f"{entry.name}: {', '.join(summary)}")
    if warned:
        rules_text = ", ".join(f"{rule} {count}" for rule, count in warned.most_common())
        typer.echo(f"Look at (files): {rules_text}")
    if report is not None:
        write_report(report, outcomes)
        typer.echo(f"Report: {report}")
    if counts["refused"] or not counts["imported"] + counts["unchanged"]:
        raise typer.Exit(1)
