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
    where = f"slice: along array axis {known['slice_axis']} of the CT, from 0"
    print_table(
        [
            number(""),
            Column("organ"),
            number("ml"),
            number("attention"),
            number(f"{known['plane']} slice"),
            Column("box in the CT's index"),
        ],
        [
            (
                str(rank),
                row["organ"],
                f"{row['ml']:.1f}",
                f"{row['attention_ml']:.1f}",
                f"{row['slice']} of {known['slices']}",
                f"[{', '.join(_spans(row))}]",
            )
            for rank, row in enumerate(known["regions"], start=1)
        ],
        f"Regions to look at ({shown} of {total}); {where}",
        key=1,
        console=console,
    )


def _spans(row: dict[str, Any]) -> list[str]:
    return [f"{a}:{b}" for a, b in zip(row["start"], row["stop"], strict=True)]
