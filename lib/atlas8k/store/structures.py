"""The structure set of a campaign: which structures its labels have, and by which number.

Functions whose first argument is a :class:`Transaction`. The set may be extended at the end and
never renumbered, since label files and rows are stored by number.
"""

from __future__ import annotations

import json

from atlas8k.core.structure_sets import DEFAULT_SET, StructureSet, built_in, from_dict
from atlas8k.store import audit_trail
from atlas8k.store.transaction import Transaction

SETTING = "structures"
"""Setting: the set in full as JSON, so that a file that described it may go."""


def current(tx: Transaction) -> StructureSet:
    """Return the set of the campaign."""
    text = tx.setting(SETTING)
    return built_in(DEFAULT_SET) if text is None else from_dict(json.loads(text))


def adopt(tx: Transaction, wanted: StructureSet) -> tuple[str, ...]:
    """Make a set that of the campaign; return the names of structures that are new in it.

    New ones are unknown in every volume until somebody labels them.

    Raises
    ------
    SettingsError
        It lacks a structure of the campaign or numbers one anew; nothing is changed.
    """
    before = current(tx)
    if wanted.as_dict() == before.as_dict():
        return ()
    # A store that nothing was labeled in has the rows of the set it was made with.
    if is_unused(tx):
        tx.run("DELETE FROM structure")
    else:
        wanted.check_holds(dict(tx.run("SELECT id, name FROM structure").fetchall()))
    present = {name for (name,) in tx.run("SELECT name FROM structure")}
    for organ in wanted.organs:
        if organ.name not in present:
            tx.insert("structure", id=organ.id, name=organ.name)
    audit_trail.record(tx, "settings", changed={"structures": [before.name, wanted.name]})
    tx.set(SETTING, json.dumps(wanted.as_dict()))
    return tuple(name for name in wanted.names if name not in before.ids)


def is_unused(tx: Transaction) -> bool:
    """Return whether nothing in the store names a structure or a label file yet."""
    return not any(
        tx.exists(f"SELECT 1 FROM {table} LIMIT 1")
        for table in ("score", "submission", "label_version", "provenance", "dataset_organ")
    )
