"""Describe an export: a table for each question that who uses a dataset asks first.

All figures but those of the campaign come from ``manifest.csv``, so that anybody who has the
dataset can make them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from atlas8k.campaign.reports import Status
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.labels.licences import demands, registered, stated
from atlas8k.reports.sheets import read_sheet
from atlas8k.reports.tables import Table
from atlas8k.services.exporting.export import TABLE, ExportError
from atlas8k.services.exporting.splits import PARTS, not_compared_text
from atlas8k.store import OrganChange

NONE = "(none)"
MOST_VALUES = 12
"""A column of metadata with more values, that are no numbers, is left out."""
TOO_FEW = "too few"
"""Of figures of fewer than 20 volumes."""


def read_manifest(folder: Path) -> pd.DataFrame:
    """Read the rows of an export's table, one for each organ of each volume.

    Raises
    ------
    ExportError
        The folder is no export.
    """
    try:
        rows = pd.read_csv(folder / TABLE, dtype=str, keep_default_na=False)
    except OSError as error:
        raise ExportError(folder, f"holds no {TABLE}: it is no export") from error
    rows["ml"] = rows["ml"].astype(float)
    rows["predicted_dice"] = pd.to_numeric(rows["predicted_dice"])
    return rows.replace(
        {"dataset": {"": NONE}, "phase": {"": "not known"}, "split": {"": "(none)"}}
    )


def tables_of(rows: pd.DataFrame, metadata: Path | None = None) -> list[Table]:
    """Return what the manifest says: sources, phases, sets, organs, sizes, checks, people.

    Parameters
    ----------
    metadata
        CSV of cases with further columns, such as age and sex.
    """
    volumes = rows.drop_duplicates("volume").set_index("volume")
    made = [_sources(volumes), *_crossed(volumes), _origin(rows), _missing(rows)]
    made += [_sizes(rows), _findings(rows)]
    if "tools" in rows and rows["tools"].any():  # an older manifest has no such column
        made.append(_tools(rows))
    if metadata is not None:
        made.append(_people(metadata, list(volumes.index)))
    return made


def _table(name: str, title: str, caption: str, frame: pd.DataFrame) -> Table:
    cells = tuple(tuple(str(cell) for cell in row) for row in frame.itertuples(index=False))
    return Table(name, title, caption, tuple(frame.columns), cells)


def _sources(volumes: pd.DataFrame) -> Table:
    rows = []
    for dataset, count in volumes["dataset"].value_counts().sort_index().items():
        entry = registered(str(dataset))
        rows.append(
            {
                "source": dataset,
                "volumes": count,
                "licence": entry.licence if entry and entry.licence else "not known",
                "asks for": "; ".join(demands(entry)) if dataset != NONE else "",
                "centres": entry.centres if entry and entry.centres else "",
                "countries": " ".join(entry.countries) if entry else "",
                "cite": stated(entry, "citation") if entry else "",
            }
        )
    caption = (
        f"{len(volumes)} volumes. Licences, centres and countries as in Table 3 of Qu et al., "
        "NeurIPS 2023; those of the whole source, not of the volumes taken."
    )
    return _table("sources", "Where the CTs come from", caption, pd.DataFrame(rows))


def _crossed(volumes: pd.DataFrame) -> list[Table]:
    """Return volumes by source and phase, and by source and set."""
    captions = {
        "phase": "Contrast phase by the median HU of aorta, vena cava, kidneys and liver in the "
        "predicted label, or as somebody has said it; volumes.",
        "split": _sets_caption(volumes),
    }
    made = []
    for column, caption in captions.items():
        counts = pd.crosstab(
            volumes["dataset"], volumes[column], margins=len({*volumes["dataset"]}) > 1,
            margins_name="all",
        )  # fmt: skip
        frame = counts.rename_axis("source").reset_index()
        title = {"phase": "Contrast phases", "split": "Training, validation, test"}[column]
        made.append(_table(column, title, caption, frame))
    return made


def _sets_caption(volumes: pd.DataFrame) -> str:
    """Say what holds volumes together, and no more than is known of it."""
    if (volumes["split"] == NONE).all():
        return "Volumes; the dataset is not split."
    patients = "Those that are known to be of one patient"
    if "compared" not in volumes:  # an older manifest has no such column
        return f"Volumes. {patients} are in one set. Whether all CTs were compared is not known."
    number = int((volumes["compared"] == "no").sum())
    if not number:
        return f"Volumes. {patients}, and near-duplicates, are in one set."
    text = not_compared_text(number, len(volumes))
    return f"Volumes. {patients} are in one set. {text}; near-duplicates may lie in two sets."


def _missing(rows: pd.DataFrame) -> Table:
    """Return by organ in how many volumes it has no label, by set and by source."""
    volumes = rows.drop_duplicates("volume")
    groups = {"all": volumes}
    sets = [part for part in volumes["split"].unique() if part != NONE]
    order = {part: place for place, part in enumerate(PARTS)}
    for part in sorted(sets, key=lambda part: (order.get(part, len(PARTS)), part)):
        groups[f"set {part}"] = volumes[volumes["split"] == part]
    for source, of in volumes.groupby("dataset"):
        groups[f"from {source}"] = of
    made = []
    for organ in ORGAN_NAMES:
        known = set(rows.loc[rows["organ"] == organ, "volume"])
        made.append(
            {
                "organ": organ,
                **{f"{name}, of {len(of)}": len({*of["volume"]} - known)
                   for name, of in groups.items()},
            }
        )  # fmt: skip
    caption = (
        "Volumes in which an organ is unknown: it has no label in this dataset, and is not "
        "background. By set, where there are sets, and by source dataset."
    )
    return _table("missing", "Missing classes", caption, pd.DataFrame(made))


def _origin(rows: pd.DataFrame) -> Table:
    """Return by organ how many volumes have it from where, and in how many it is unknown."""
    total = rows["volume"].nunique()
    made = []
    for organ in ORGAN_NAMES:
        of = rows[rows["organ"] == organ]
        kinds = of["source"] + " " + of["state"]
        made.append(
            {
                "organ": organ,
                "public": (of["source"] == "public").sum(),
                "drawn": (kinds == "revised revised").sum(),
                "confirmed": (kinds == "revised confirmed").sum(),
                "said absent": (kinds == "revised absent").sum(),
                "predicted": (of["source"] == "pseudo").sum(),
                "unknown": total - len(of),
                "predicted Dice": _number(of.loc[of["source"] == "pseudo", "predicted_dice"]),
            }
        )
    caption = (
        f"Of {total} volumes. Public: labeled, or said to be absent, by the source dataset; drawn, "
        "confirmed, said absent: by an annotator; predicted: by the networks, nobody's word; "
        "unknown: has no label here, and is not background. Predicted Dice: mean of what the "
        "networks' errors let expect."
    )
    return _table("organs", "Organs, and who says so", caption, pd.DataFrame(made))


def _tools(rows: pd.DataFrame) -> Table:
    """Return how many labels tools from outside helped with, by their licence."""
    helped = rows[rows["tools"] != ""]
    counts = helped.groupby("tools")["volume"].agg(["size", "nunique"]).reset_index()
    counts.columns = pd.Index(["tool", "organs", "volumes"])
    caption = (
        "Organs that somebody drew with the help of a tool that is no part of atlas8k. Look "
        "whether the licence of its weights binds what was drawn with it."
    )
    return _table("tools", "Tools that helped", caption, counts)


def _number(values: pd.Series[float]) -> str:
    known = values.dropna()
    return f"{known.mean():.2f}" if len(known) else ""


def _sizes(rows: pd.DataFrame) -> Table:
    """Return organ volumes by source, as the paper's Figure 1b and 9 show them."""
    there = rows[rows["state"] != "absent"]
    groups = [("all", there), *there.groupby("dataset")]
    made = [
        {"organ": organ, **{str(name): _quartiles(of[of["organ"] == organ]) for name, of in groups}}
        for organ in ORGAN_NAMES
    ]
    caption = (
        "Millilitres: median [quartiles], n. Voxels times voxel size, absent organs left out; an "
        "organ that the field of view cuts counts with what is in it."
    )
    return _table("sizes", "Organ volumes", caption, pd.DataFrame(made))


def _quartiles(of: pd.DataFrame) -> str:
    if of.empty:
        return ""
    low, middle, high = np.percentile(of["ml"], [25, 50, 75])
    low, middle, high = (f"{ml:,.0f}" if ml >= 1000 else f"{ml:.3g}" for ml in (low, middle, high))
    return f"{middle} [{low}–{high}], {len(of)}"


def _findings(rows: pd.DataFrame) -> Table:
    checked = rows[rows["checks"] != "not checked"]
    made = []
    for organ in ORGAN_NAMES:
        of = checked[checked["organ"] == organ]
        found = of["checks"][of["checks"] != ""]
        rules = found.str.split().explode().value_counts()
        made.append(
            {
                "organ": organ,
                "checked": len(of),
                "with a finding": len(found),
                "%": f"{100 * len(found) / len(of):.1f}" if len(of) else "",
                "by rule": ", ".join(f"{rule} {n}" for rule, n in rules.items()),
            }
        )
    caption = "Volumes in which an anatomical rule has something against the label as exported."
    return _table("checks", "What the checks find", caption, pd.DataFrame(made))


def _people(metadata: Path, names: Sequence[str]) -> Table:
    """Return what a file says of the volumes' patients: numbers by quartile, words by count."""
    sheet = read_sheet(metadata)
    known = {n: fields for n, (_, fields) in sheet.rows.items() if n in set(names)}
    frame = pd.DataFrame(list(known.values()), columns=list(sheet.columns))
    made = []
    for column in frame.columns:
        values = frame[column][frame[column].str.strip() != ""]
        numbers = pd.to_numeric(values, errors="coerce")
        if len(values) and numbers.notna().all() and values.nunique() > 2:
            low, middle, high = np.percentile(numbers, [25, 50, 75])
            text = f"median {middle:g} [{low:g}–{high:g}], {numbers.min():g} to {numbers.max():g}"
        elif values.nunique() <= MOST_VALUES:
            text = ", ".join(f"{value} {n}" for value, n in values.value_counts().items())
        else:
            continue
        made.append({"what": column, "known of": len(values), "figures": text})
    caption = f"{len(known)} of {len(names)} volumes are in the file; volumes, not patients."
    frame = pd.DataFrame(made, columns=["what", "known of", "figures"])
    return _table("people", "Who the CTs are of", caption, frame)


def _evidence(status: Status) -> list[Table]:
    """Return what places and predicted DSC were worth, by round and organ."""
    places, quality = [], []
    for round_ in status.rounds:
        for place in round_.evidence:
            if place.volumes and (place.places or place.changed_ml):
                share, hit = place.share_inside, place.share_places
                places.append(
                    {
                        "round": round_.number, "organ": place.organ, "volumes": place.volumes,
                        "changed ml": f"{place.changed_ml:.1f}", "places": place.places,
                        "changed in places": TOO_FEW if share is None else f"{share:.0%}",
                        "places with a change": TOO_FEW if hit is None else f"{hit:.0%}",
                    }
                )  # fmt: skip
        for one in round_.quality:
            if one.volumes:
                told = (one.predicted, one.found, one.error, one.inside)
                said = [TOO_FEW if value is None else f"{value:.3f}" for value in told]
                figures = ("predicted DSC", "found", "mean error", "in the 90 % interval")
                quality.append(
                    {
                        "round": round_.number, "organ": one.organ, "volumes": one.volumes,
                        "drawn at random": one.drawn_at_random,
                        **dict(zip(figures, said, strict=True)),
                    }
                )  # fmt: skip
    made = []
    if places:
        caption = "Of what annotators changed, how much lies in the places they were shown."
        made.append(_table("places", "Places shown", caption, pd.DataFrame(places)))
    if quality:
        caption = (
            "DSC predicted before each submission beside that of draft label and submission, of "
            f"organs that were assessed. Under the present networks: {status.predicted_quality}."
        )
        made.append(_table("quality", "Predicted and found DSC", caption, pd.DataFrame(quality)))
    return made


def campaign_tables(
    status: Status, readings: Sequence[tuple[str, int, int, dict[str, OrganChange]]]
) -> list[Table]:
    """Return what the campaign says: label noise, effort, errors left, agreement of readers.

    Parameters
    ----------
    readings
        Second readings, as the ledger's ``agreements`` gives them.
    """
    noise = pd.DataFrame(
        [
            {
                "source": one.dataset or NONE, "organ": one.organ, "checked": one.checked,
                "before": one.before, "after": one.after,
                "before, %": f"{100 * one.before / one.checked:.1f}" if one.checked else "",
                "after, %": f"{100 * one.after / one.checked:.1f}" if one.checked else "",
            }
            for one in status.label_noise
        ]
    )  # fmt: skip
    made = []
    if len(noise):
        caption = (
            "Volumes of the campaign in which an anatomical rule has something against an organ: "
            "before in the pseudo label, after in the current one (as Touchstone's appendix E)."
        )
        made.append(_table("noise", "Label noise before and after", caption, noise))
    effort = pd.DataFrame(
        [
            {
                "round": one.number, "reviewed": one.reviewed, "changed": one.changed,
                "hours": f"{one.effort.hours:.1f}",
                "by hand, hours": f"{one.effort.hours_by_hand:.0f}",
                "saved, hours": "" if one.effort.hours_saved is None
                else f"{one.effort.hours_saved:.0f}",
            }
            for one in status.rounds
        ]
    )  # fmt: skip
    if len(effort):
        caption = "From hand-out to submission; by hand: 60 minutes an organ (the paper's figure)."
        made.append(_table("effort", "Effort", caption, effort))
    made += _evidence(status)
    audit = status.audit
    if audit is not None:
        share = audit.volumes
        frame = pd.DataFrame(
            [{"audited": share.audited, "wrong": share.wrong, "errors left": audit.left,
              "at least": audit.left_low, "at most": audit.left_high, "of": audit.unseen}]
        )  # fmt: skip
        caption = "Low-ranked volumes reviewed at random; exact 95 % interval. " + audit.text
        made.append(_table("audit", "Errors left in what nobody reviewed", caption, frame))
    pairs = pd.DataFrame(
        [
            {"organ": organ, "dsc": change.dsc}
            for _, _, _, organs in readings
            for organ, change in organs.items()
            if change.dsc is not None
        ]
    )
    if len(pairs):
        frame = pairs.groupby("organ")["dsc"].agg(["count", "mean", "min"]).round(3).reset_index()
        frame.columns = pd.Index(["organ", "readings", "mean DSC", "least"])
        caption = "Two readers of one volume, neither of whom knew the other's label."
        made.append(_table("agreement", "Agreement of readers", caption, frame))
    return made
