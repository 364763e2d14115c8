"""Contrast phase of each CT: estimated when it is scored, unless somebody has said it."""

from __future__ import annotations

from typing import NamedTuple

from atlas8k.core.errors import LedgerError
from atlas8k.store import audit_trail, volumes
from atlas8k.store.records import Holder
from atlas8k.store.transaction import Transaction

PHASES = ("non-contrast", "arterial", "portal-venous", "delayed", "unsure")


class Phase(NamedTuple):
    """A CT's phase; ``said`` by a person, else estimated."""

    phase: str
    said: bool


def of_volumes(tx: Transaction) -> dict[str, Phase]:
    """Return the phase of each volume that has one, by name."""
    estimated = tx.run(
        "SELECT v.name, json_extract(r.traits, '$.phase') FROM result r JOIN volume v"
        " ON v.id = r.volume WHERE json_extract(r.traits, '$.phase') IS NOT NULL"
        " ORDER BY r.model_version"
    )
    found = {name: Phase(phase, False) for name, phase in estimated}
    said = tx.run("SELECT v.name, p.phase FROM phase p JOIN volume v ON v.id = p.volume")
    return found | {name: Phase(phase, True) for name, phase in said}


def of_volume(tx: Transaction, volume: str) -> Phase | None:
    """Return the phase of a volume; None where it has none."""
    if (known := said(tx, volume)) is not None:
        return Phase(known, True)
    estimated = tx.value(
        "SELECT json_extract(r.traits, '$.phase') FROM result r JOIN volume v ON v.id = r.volume"
        " WHERE v.name = ? AND json_extract(r.traits, '$.phase') IS NOT NULL"
        " ORDER BY r.model_version DESC LIMIT 1",
        volume,
    )
    return None if estimated is None else Phase(estimated, False)


def said(tx: Transaction, volume: str) -> str | None:
    """Return the phase that somebody has said of a CT; None: nobody has."""
    found: str | None = tx.value(
        "SELECT p.phase FROM phase p JOIN volume v ON v.id = p.volume WHERE v.name = ?", volume
    )
    return found


def say(tx: Transaction, volume: str, phase: str, holder: Holder) -> None:
    """Say the phase of a CT, in place of the estimate; empty: go by the estimate again.

    Raises
    ------
    LedgerError
        There is no such phase.
    UnknownVolumeError
        The volume was never seen.
    """
    row = volumes.volume_row(tx, volume)
    if phase and phase not in PHASES:
        raise LedgerError(f"{phase}: no such phase; there are {', '.join(PHASES)}")
    tx.run("DELETE FROM phase WHERE volume = ?", row)
    if phase:
        tx.insert("phase", volume=row, phase=phase, holder=holder.key, at=tx.now)
    audit_trail.record(tx, "review", by=holder.key, volume=row, phase=phase or "estimated")
