"""Write the datasheet of an export: a page that needs nothing beside it, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from atlas8k.campaign.reports import Status
from atlas8k.core.files import publishing
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.dataset_figures import MOST_SOURCES, Noise, noise_bars, size_boxes
from atlas8k.reports.report import write_table_page
from atlas8k.reports.svg import Drawing
from atlas8k.services.exporting.datasheet import campaign_tables, read_manifest, tables_of
from atlas8k.services.exporting.export import DATASHEET
from atlas8k.store import OrganChange

TEXT = "datasheet.md"
FOOTER = (
    "All but the campaign's figures follow from manifest.csv, which lies beside the labels: "
    "anybody who has the dataset can make them again. How each was made stands below it."
)

Readings = Sequence[tuple[str, int, int, dict[str, OrganChange]]]


def write_datasheet(
    dataset: Path,
    *,
    status: Status | None = None,
    readings: Readings = (),
    metadata: Path | None = None,
    title: str = "Datasheet",
    out: Path | None = None,
) -> tuple[Path, Path]:
    """Write the datasheet; return the page and the Markdown.

    Parameters
    ----------
    dataset
        Folder of the export.
    status, readings
        Of the campaign: for effort, errors left, label noise, and agreement of readers.
    metadata
        CSV of cases with age, sex and the like.
    out
        Folder to write to; None: the dataset's.

    Raises
    ------
    ExportError
        The folder is no export.
    """
    rows = read_manifest(dataset)
    tables = tables_of(rows, metadata)
    if status is not None:
        tables += campaign_tables(status, readings)
    notes = [
        f"{rows['volume'].nunique()} volumes, {len(rows)} labels of organs. An organ that is "
        "unknown has no label: it is not background."
    ]
    if status is None:
        notes.append("Nothing of the campaign: give --studies for effort, audits and label noise.")
    folder = out or dataset
    page = write_table_page(
        folder / DATASHEET, tables, title=title, notes=notes, footer=FOOTER,
        figures=_figures(rows, status),
    )  # fmt: skip
    with publishing(folder / TEXT) as temporary:
        parts = [f"# {title}", *notes, *(table.markdown() for table in tables)]
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page, folder / TEXT


def _figures(rows: pd.DataFrame, status: Status | None) -> list[Drawing]:
    there = rows[rows["state"] != "absent"]
    sources = list(there["dataset"].value_counts().index[:MOST_SOURCES])
    panels = []
    for organ in ORGAN_NAMES:
        of = there[there["organ"] == organ]
        samples = [(str(s), of.loc[of["dataset"] == s, "ml"].to_numpy()) for s in sources]
        panels.append((organ, [("all", of["ml"].to_numpy()), *samples] if len(sources) > 1
                       else samples))  # fmt: skip
    found = [size_boxes(panels)]
    if status is not None:
        by_organ: dict[str, list[int]] = {}
        for one in status.label_noise:
            sums = by_organ.setdefault(one.organ, [0, 0, 0])
            for n, value in enumerate((one.checked, one.before, one.after)):
                sums[n] += value
        found.append(noise_bars([Noise(organ, *sums) for organ, sums in by_organ.items()]))
    return [one for one in found if one is not None]
