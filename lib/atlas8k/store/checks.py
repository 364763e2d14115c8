"""What anatomical rules have against each volume's labels, and how often by dataset and organ."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable

from atlas8k.core.findings import Finding
from atlas8k.store import volumes
from atlas8k.store.records import CheckedLabel, LabelNoise
from atlas8k.store.transaction import Transaction


def record(tx: Transaction, volume: str, label: CheckedLabel, findings: Iterable[Finding]) -> None:
    """Keep what was found in a label; replaces what was found in the last one of its kind."""
    text = json.dumps([list(one) for one in findings], separators=(",", ":"))
    tx.run(
        "INSERT OR REPLACE INTO label_check VALUES (?,?,?,?)",
        *(volumes.volume_row(tx, volume), label, tx.now, text),
    )


def forget(tx: Transaction, volume: str, label: CheckedLabel) -> None:
    """Forget what was found in a label that is not there any more."""
    tx.run(
        "DELETE FROM label_check WHERE label = ?"
        " AND volume = (SELECT id FROM volume WHERE name = ?)",
        *(label, volume),
    )


def of_volume(tx: Transaction, volume: str) -> dict[str, list[Finding]]:
    """Return what was found in the last label of each kind that was checked."""
    rows = tx.run(
        "SELECT c.label, c.findings FROM label_check c JOIN volume v ON v.id = c.volume"
        " WHERE v.name = ? ORDER BY c.label",
        volume,
    )
    return {label: _read(text) for label, text in rows}


def current(tx: Transaction, volume: str) -> list[Finding] | None:
    """Return what was found in the label that is current; None: it was not checked.

    That is the fused label, or the pseudo label where nothing else is there.
    """
    found = of_volume(tx, volume)
    return found.get("fused", found.get("pseudo"))


def noise(tx: Transaction) -> list[LabelNoise]:
    """Count the volumes with a finding by source dataset and organ, before and after revision.

    As Touchstone's appendix E counts label noise. `before` is of pseudo labels, `after` of the
    labels that are current. Volumes whose pseudo label was not checked are no part of it, so
    that both are of the same volumes. A dataset has a row for every organ with any finding, and
    at least one, of the organ ``any``: volumes with a finding in whichever organ.
    """
    by_volume: dict[int, dict[str, list[Finding]]] = defaultdict(dict)
    for row, label, text in tx.run(
        "SELECT c.volume, c.label, c.findings FROM label_check c JOIN volume v ON v.id = c.volume"
        " WHERE v.counted = 1 AND c.label <> 'submitted'"
    ):
        by_volume[row][label] = _read(text)
    sources = dict(tx.run("SELECT id, source FROM volume").fetchall())
    checked: Counter[str] = Counter()
    before: Counter[tuple[str, str]] = Counter()
    after: Counter[tuple[str, str]] = Counter()
    rules: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row, labels in by_volume.items():
        if "pseudo" not in labels:
            continue
        dataset = sources[row]
        checked[dataset] += 1
        now = labels.get("fused", labels["pseudo"])
        for count, found in ((before, labels["pseudo"]), (after, now)):
            organs = {one.organ for one in found}
            count.update((dataset, organ) for organ in (*organs, *(("any",) if organs else ())))
        for one in now:
            rules[dataset, one.organ][one.rule] += 1
    keys = {*before, *after, *((dataset, "any") for dataset in checked)}
    return [
        LabelNoise(
            dataset, organ, checked[dataset], before[dataset, organ], after[dataset, organ],
            dict(sorted(rules[dataset, organ].items())),
        )
        for dataset, organ in sorted(keys)
    ]  # fmt: skip


def _read(text: str) -> list[Finding]:
    return [Finding(*one) for one in json.loads(text)]
