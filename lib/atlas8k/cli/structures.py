"""``atlas8k structures``: which structures can be annotated, and what a file of a set says."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas8k.cli.terminal_tables import print_table


def structures(
    name: Annotated[
        str, typer.Argument(metavar="SET", help="a name, or a YAML or JSON file; empty: all sets")
    ] = "",
) -> None:
    """List the structure sets, or the structures of one; checks a file of one.

    A server is begun with one by --conf structures SET. A command goes by its campaign; where
    there is none, it is told by atlas8k --structures SET COMMAND.
    """
    from atlas8k.core.structure_sets import built_in, built_in_names, find_set

    if not name:
        sets = [built_in(one) for one in built_in_names()]
        rows: list[dict[str, object]] = [
            {"set": one.name, "n": len(one.names), "structures": ", ".join(one.names)}
            for one in sets
        ]
        print_table(rows, "Structure sets", fold=["structures"], key="set")
        return
    found = find_set(name)
    rows = [
        {
            "id": organ.id,
            "name": organ.name,
            "other names": ", ".join(organ.aliases),
            "SNOMED CT": f"{organ.snomed_code} {organ.snomed_meaning}",
        }
        for organ in found.organs
    ]
    print_table(rows, found.name, fold=["other names", "SNOMED CT"], key="name")
