"""What ``atlas8k explain`` prints: a volume's organs and regions, in order."""

from __future__ import annotations

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
    from atlas8k.attention.explain import Place
    from atlas8k.cli.tables import Column, number, print_table, terminal

    console = terminal()
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
    names = ("attention", "inconsistency", "uncertainty", "overlap", "salient", "regions")
    print_table(
        [Column("organ"), *map(number, names)],
        [
            (row["organ"], *(f"{row[key]:.2f}" for key in ORGAN_FIGURES), str(row["regions"]))
            for row in known["organs"]
        ],
        "Organs, most attention first (ml)",
        console=console,
    )
    if not known["regions"]:
        console.print("No region stands out: the attention is thin outlines and small spots.")
        return
    shown, total = len(known["regions"]), known["regions_in_all"]
    places = [Place.from_dict(row.get("place")) for row in known["regions"]]
    print_table(
        [
            number(""),
            Column("organ"),
            number("ml"),
            number("attention"),
            number(f"{known['plane']} slice in OHIF"),
            Column("3D Slicer, mm (RAS)"),
            number(f"file index, axis {known['slice_axis']}, from 0"),
        ],
        [
            (
                str(rank),
                row["organ"],
                f"{row['ml']:.1f}",
                f"{row['attention_ml']:.1f}",
                f"{place.ohif_slice} of {place.slices}" if place else "score again",
                "R {:.1f}, A {:.1f}, S {:.1f}".format(*place.ras_mm) if place else "",
                str(row["slice"]),
            )
            for rank, (row, place) in enumerate(zip(known["regions"], places, strict=True), start=1)
        ],
        f"Regions to look at ({shown} of {total})",
        key=1,
        console=console,
    )
