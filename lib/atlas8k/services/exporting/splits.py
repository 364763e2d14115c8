"""Split a dataset into training, validation and test, the same as volumes are added.

Whole groups are split: the volumes of one patient, where a table of patients is given, and what
is a near-duplicate (:mod:`atlas8k.store.alike`). Groups come in an order by a salted hash, each
goes to the set that lacks most in its stratum, of one source and phase. Who is where is kept in
the store, so that nothing moves as volumes come. Whole sources can be kept apart as external test
sets.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atlas8k.core.errors import SettingsError
from atlas8k.store import Ledger, alike, phases
from atlas8k.training.split import read_patients

PARTS = ("train", "validation", "test")
EXCLUDED = "excluded"
SHARES = (5500, 500, 2448)
"""Of the paper: 5,500 / 500 / 2,448 of 8,448 volumes."""


@dataclass(frozen=True)
class SplitRule:
    """How volumes are split.

    Attributes
    ----------
    shares
        Of training, validation and test, in any unit.
    salt
        Another one makes another split; it keeps anybody from telling a patient by the hash.
    external
        Name of the test set by source: its volumes are in no other.
    patients
        Patient by volume; of one that is not named, the volume is a patient of its own.
    """

    shares: tuple[float, float, float] = SHARES
    salt: str = ""
    external: Mapping[str, str] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the store knows the split by: another salt, share or external set makes another."""
        said = [self.shares, self.salt, sorted(self.external.items())]
        return _hash(json.dumps(said))[:16]


def parse_shares(text: str) -> tuple[float, float, float]:
    """Parse ``70/10/20``.

    Raises
    ------
    SettingsError
        Not three numbers of 0 or more with a sum.
    """
    try:
        one, two, three = (float(part) for part in text.split("/"))
    except ValueError:
        one = two = three = -1.0
    if min(one, two, three) < 0 or not 0 < one + two + three < float("inf"):
        raise SettingsError(f"{text!r}: shares of training/validation/test are needed, as 70/10/20")
    return one, two, three


def not_compared_text(number: int, total: int) -> str:
    """Say that near-duplicates of some CTs are not known, and may lie in two sets; else empty."""
    if not number:
        return ""
    return (
        f"{number} of {total} CTs were not compared with the others: `atlas8k cts duplicates` first"
    )


def read_patients_of(path: Path | None) -> dict[str, str]:
    """Read a table of patients; none where no file is given."""
    return {} if path is None else read_patients(path)


def assign(ledger: Ledger, rule: SplitRule) -> dict[str, str]:
    """Return the set of each volume that was ever seen, by name; new ones are assigned first.

    What was assigned stays. Only where two volumes that lie in different sets turn out to be
    near-duplicates, or of one patient, the one that was seen later moves to the other's set.
    Volumes that belong to one of an external set and are not of its source are ``excluded``.
    """
    with ledger.write(durable=True) as tx:
        rows = tx.run("SELECT name, id, source FROM volume ORDER BY id").fetchall()
        ids = {name: number for name, number, _ in rows}
        sources = {name: source for name, _, source in rows}
        known = dict(
            tx.run(
                "SELECT v.name, s.part FROM split s JOIN volume v ON v.id = s.volume"
                " WHERE s.rule = ? ORDER BY v.id",
                rule.key,
            )
        )
        found = phases.of_volumes(tx)
        chosen: dict[str, str] = {}
        sizes: dict[tuple[str, str], Counter[str]] = {}
        new = []
        for members in _groups(sources, alike.pairs(tx), rule.patients):
            first = members[0]
            stratum = (sources[first], found[first].phase if first in found else "")
            size = sizes.setdefault(stratum, Counter())
            outer = {n: rule.external[sources[n]] for n in members if sources[n] in rule.external}
            before = next((known[name] for name in members if name in known), None)
            if outer:
                chosen.update({name: outer.get(name, EXCLUDED) for name in members})
            elif before in PARTS:
                chosen.update(dict.fromkeys(members, before))
                size[before] += len(members)
            else:
                new.append((_hash(f"{rule.salt}\n{first}"), members, size))
        for _, members, size in sorted(new):
            part = _most_wanted(size, rule.shares)
            size[part] += len(members)
            chosen.update(dict.fromkeys(members, part))
        changed = {name: part for name, part in chosen.items() if known.get(name) != part}
        for name, part in changed.items():
            tx.run("INSERT OR REPLACE INTO split VALUES (?,?,?)", rule.key, ids[name], part)
    return chosen


def _most_wanted(size: Counter[str], shares: tuple[float, float, float]) -> str:
    """Return the set that is furthest below its share, of a stratum."""
    total = size.total() + 1
    lacking = {p: n / sum(shares) * total - size[p] for p, n in zip(PARTS, shares, strict=True)}
    return max(PARTS, key=lambda part: lacking[part])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _groups(
    sources: Mapping[str, str], pairs: list[alike.Pair], patients: Mapping[str, str]
) -> list[list[str]]:
    """Return volumes that belong together, in the order that they were first seen in."""
    top: dict[str, str] = {}

    def of(name: str) -> str:
        while top.setdefault(name, name) != name:
            name = top[name]
        return name

    links = [(f"volume {p.first}", f"volume {p.second}") for p in pairs]
    links += [(f"volume {n}", f"patient {p}") for n, p in patients.items() if n in sources]
    for one, two in links:
        top[of(one)] = of(two)
    groups: dict[str, list[str]] = {}
    for name in sources:
        groups.setdefault(of(f"volume {name}"), []).append(name)
    return list(groups.values())
