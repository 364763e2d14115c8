"""What ``atlas8k explain`` prints: a volume's organs and regions, in order."""

from __future__ import annotations

import sys
from typing import Any

ORGAN_FIGURES = (
    "attention_ml",
    "inconsistency_ml",
    "uncertainty_ml",
    "overlap_ml",
    "salient_ml",
)


def print_tables(known: dict[str, Any]) -> None:
    """Print a line on the volume's place, then its organs, then its regions."""
    from rich.console import Console
    from rich.table import Table

    from atlas8k.attention.places import Place

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    place = known["places"][known["ranked_by"]]
    console.print(
        f"[bold]{known['volume']}[/bold]: rank {place['rank']} of {place['of']} by "
        f"{known['ranked_by']}, attention {known['attention_ml']:.1f} ml, {known['status']}; "
        f"networks {known['model_signature']}"
    )
    others = (
        f"{item['rank']} by {name}"
        for name, item in known["places"].items()
        if name != known["ranked_by"]
    )
    console.print(f"rank {', '.join(others)}")
    organs = Table(title="Organs, most attention first (ml)", title_justify="left")
    organs.add_column("organ")
    for name in ("attention", "inconsistency", "uncertainty", "overlap", "salient", "regions"):
        organs.add_column(name, justify="right")
    for row in known["organs"]:
        organs.add_row(
            row["organ"],
            *(f"{row[key]:.2f}" for key in ORGAN_FIGURES),
            str(row["regions"]),
        )
    console.print(organs)
    if not known["regions"]:
        console.print("No region stands out: the attention is thin outlines and small spots.")
        return
    shown, total = len(known["regions"]), known["regions_in_all"]
    looked = Table(title=f"Regions to look at ({shown} of {total})", title_justify="left")
    for name, justify in (
        ("", "right"),
        ("organ", "left"),
        ("ml", "right"),
        ("attention", "right"),
        (f"{known['plane']} slice in OHIF", "right"),
        ("3D Slicer, mm (RAS)", "left"),
        (f"file index, axis {known['slice_axis']}, from 0", "right"),
    ):
        looked.add_column(name, justify=justify)  # type: ignore[arg-type]
    for rank, row in enumerate(known["regions"], start=1):
        place = Place.from_dict(row.get("place"))
        looked.add_row(
            str(rank),
            row["organ"],
            f"{row['ml']:.1f}",
            f"{row['attention_ml']:.1f}",
            f"{place.ohif_slice} of {place.slices}" if place else "score again",
            "R {:.1f}, A {:.1f}, S {:.1f}".format(*place.ras_mm) if place else "",
            str(row["slice"]),
        )
    console.print(looked)
