"""What campaign tests share: submissions as the ledger gives them, a round that was worked on."""

from __future__ import annotations

from tests.store.kit import Clock, scored

from atlas8k.store import Holder, Ledger, OrganChange, Plan, Planned, Worked

CONFIRMED = OrganChange("confirmed", 10, 10, 0, 1.0)
REVISED = OrganChange("revised", 10, 12, 6, 0.8)
ADDED = OrganChange("revised", 0, 5, 5, 0.0)
TAKEN = OrganChange("absent", 7, 0, 7, 0.0)
AGREED_ABSENT = OrganChange("absent", 0, 0, 0, None)
SILENT = OrganChange("not_assessed", 0, 0, 0, None)
UNNAMED = OrganChange("not_assessed", 10, 10, 0, 1.0)


def worked(number: int, volume: str, minutes: float | None = 10.0, **more: object) -> Worked:
    values: dict[str, object] = {
        "id": number,
        "round": 1,
        "volume": volume,
        "holder": "user:anna",
        "anonymous": False,
        "submitted_at": float(number),
        "lease": None if minutes is None else number,
        "minutes": minutes,
        "model_version": None,
        "file": None,
        "sha256": None,
        "late": False,
        "conflict": False,
        "purpose": "revise",
        "organs": {"liver": CONFIRMED},
    }
    return Worked(**{**values, **more})  # type: ignore[arg-type]


def planned(
    volumes: str, top: int, audits: str = "", gone: str = "", *, before: int = 0, stop: int = 10
) -> Plan:
    """A list of one-letter volumes, largest first."""
    lines = tuple(
        Planned(
            place,
            name,
            float(len(volumes) - place),
            audits.index(name) + 1 if name in audits else None,
            "vanished" if name in gone else "open",
        )
        for place, name in enumerate(volumes, start=1)
    )
    return Plan(1, "one", "eq4", 0.0, top, 10.0, "seed", len(audits), before, stop, lines)


def full(ledger: Ledger, n: int, model_version: str = "one") -> None:
    """So many scored volumes, ``v00`` the largest."""
    scored(ledger, {f"v{i:02d}": float(n - i) for i in range(n)}, model_version)


def review(
    ledger: Ledger,
    clock: Clock,
    holder: Holder,
    change: OrganChange = CONFIRMED,
    minutes: float = 9,
) -> str:
    """Take the next sample and submit it; its name."""
    sample = ledger.next_sample(holder=holder, model_version="one")
    assert sample is not None
    clock.minutes(9)
    ledger.submit(sample.volume, holder, organs={"liver": change})
    return sample.volume
