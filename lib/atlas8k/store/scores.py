"""Model versions, the scores measured under them, and how far scoring has come."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from atlas8k.core.errors import LedgerError
from atlas8k.core.findings import Finding
from atlas8k.core.rankings import RANKINGS
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.store import audit_trail, checks, ranking, rounds, selections, volumes
from atlas8k.store.errors import UnknownModelVersionError
from atlas8k.store.records import Cost, OrganScore, Progress
from atlas8k.store.transaction import Transaction

PEAK = "peak_mb"
"""Setting: what predicting takes of memory, under the model version that was scored last."""

# Model versions

_SERVED = "audit:served"
"""Setting: the model version that was registered last, by whatever process."""


def register(
    tx: Transaction,
    model_version: str,
    detail: Mapping[str, Any] | None = None,
    *,
    new_round: bool = True,
) -> bool:
    """Note a model version; True where it is new, else its detail stays as it was.

    A new one ends the open round, which it is the result of, and begins the next,
    unless `new_round` is false (say, for other attention settings).
    """
    text = json.dumps(detail or {}, sort_keys=True, default=str)
    new = tx.run(
        "INSERT INTO model_version (name, detail, registered_at) VALUES (?,?,?)"
        " ON CONFLICT DO NOTHING",
        model_version,
        text,
        tx.now,
    ).rowcount
    if new and new_round:
        rounds.close(tx, {"model_version": model_version})
        rounds.open_round(tx, ranking.model_version_row(tx, model_version))
    # Not where it is new only: networks of before may be served again.
    if (before := tx.setting(_SERVED)) != model_version:
        tx.set(_SERVED, model_version)
        selections.forget_unusable(tx, model_version)
        audit_trail.record(
            tx, "publish", model_version=model_version, before=before, networks=(detail or {})
        )
    return bool(new)


def model_version_detail(tx: Transaction, model_version: str) -> dict[str, Any]:
    """Return what was registered with a model version."""
    text = tx.value("SELECT detail FROM model_version WHERE name = ?", model_version)
    if text is None:
        raise UnknownModelVersionError(model_version)
    return dict(json.loads(text))


def known(tx: Transaction, model_version: str | None) -> str | None:
    """Return a model version where it is registered: in a store made anew it may not be."""
    found: str | None = tx.value("SELECT name FROM model_version WHERE name = ?", model_version)
    return found


def last_model_version(tx: Transaction) -> str | None:
    """Return the model version that was registered, or that a round was opened with, last."""
    name: str | None = tx.value(
        "SELECT name FROM (SELECT name, registered_at AS at, id FROM model_version UNION ALL"
        " SELECT s.name, r.opened_at, s.id FROM round r"
        " JOIN model_version s ON s.id = r.model_version) ORDER BY at DESC, id DESC LIMIT 1"
    )
    return name


# Scores


def _checked(volume: str, sizes: Mapping[str, OrganScore]) -> dict[int, OrganScore]:
    scores = {}
    for organ, size in sizes.items():
        if organ not in ORGAN_IDS:
            raise LedgerError(f"{volume}: no organ is called {organ}; {', '.join(ORGAN_NAMES)} are")
        figures = size.figures
        terms = [float(ml) for ml in size[:4]]
        known = [value for value in figures.values() if value is not None]
        if not all(math.isfinite(ml) and ml >= 0 for ml in (*terms, *known)):
            raise LedgerError(
                f"{volume}: {organ}: a size must be a number of millilitres of 0 or more, not "
                f"{size}"
            )
        if strange := figures.keys() - RANKINGS.keys():
            raise LedgerError(f"{volume}: {organ}: no ranking is called {', '.join(strange)}")
        exact = {name: None if ml is None else float(ml) for name, ml in figures.items()}
        scores[ORGAN_IDS[organ]] = OrganScore._make([*terms, exact])
    return scores


def record_score(
    tx: Transaction,
    volume: str,
    model_version: str,
    sizes: Mapping[str, OrganScore],
    *,
    seconds: float | None = None,
    explanation: Mapping[str, Any] | None = None,
    traits: Mapping[str, Any] | None = None,
    findings: Iterable[Finding] | None = None,
    peak_mb: Mapping[str, float] | None = None,
) -> None:
    """Record attention sizes by organ name; replaces an earlier score or failure.

    Parameters
    ----------
    explanation
        Organs and regions in order, JSON-ready, for :func:`explanation`.
    traits
        What lists are drawn by beside the ranking, see :func:`~atlas8k.core.selection.traits_of`.
    findings
        What anatomical rules have against the pseudo label; None: it was not checked.
    peak_mb
        Most memory that the process has taken so far: ``memory``, and ``gpu`` of a GPU.

    Raises
    ------
    LedgerError
        Unknown volume, model version or organ; a size that is negative or not finite, or
        missing for the current ranking.
    """
    scores = _checked(volume, sizes)
    row, s = volumes.volume_row(tx, volume), ranking.model_version_row(tx, model_version)
    known = ranking.known_organs(tx, row)
    current = ranking.current(tx)
    try:
        figures = {o: score.figure(current) for o, score in scores.items()}
    except KeyError as err:
        raise LedgerError(f"{volume}: no figures for ranking {current}, which is current") from err
    total = math.fsum(score.attention_ml for score in scores.values())
    rank = RANKINGS[current].score(figure for o, figure in figures.items() if o not in known)
    kept = None if traits is None else json.dumps(traits, separators=(",", ":"), allow_nan=False)
    _replace_result(tx, row, s, seconds=seconds, attention_ml=total, rank_ml=rank, traits=kept)
    tx.connection.executemany(
        "INSERT INTO score (volume, model_version, organ, ranked, attention_ml, inconsistency_ml,"
        " uncertainty_ml, overlap_ml, figures) VALUES (?,?,?,?,?,?,?,?,?)",
        [
            (row, s, organ, organ not in known, *score[:4], json.dumps(score.figures))
            for organ, score in sorted(scores.items())
        ],
    )
    if explanation is not None:
        _keep_explanation(tx, row, s, explanation)
    if findings is not None:
        checks.record(tx, volume, "pseudo", findings)
    if peak_mb:
        _keep_peak(tx, model_version, peak_mb)
    tx.run("UPDATE volume SET failed = 0 WHERE id = ? AND failed", row)
    mark_complete(tx, s)


def _keep_peak(tx: Transaction, model_version: str, peak_mb: Mapping[str, float]) -> None:
    known = peak_memory(tx, model_version)
    # Within a tenth it is the same: most volumes write nothing.
    if any(mb > 1.1 * known.get(what, 0.0) for what, mb in peak_mb.items()):
        most = known | {what: round(max(mb, known.get(what, 0.0))) for what, mb in peak_mb.items()}
        tx.set(PEAK, json.dumps({"model_version": model_version, "mb": most}))


def peak_memory(tx: Transaction, model_version: str) -> dict[str, float]:
    """Return the most memory that a process took to predict, MB, to a tenth; empty: not known.

    ``memory``, and ``gpu`` where it had one.
    """
    kept = json.loads(tx.setting(PEAK) or "{}")
    return dict(kept["mb"]) if kept.get("model_version") == model_version else {}


def costs(tx: Transaction, model_version: str) -> list[Cost]:
    """Return what the volumes took that a model version has scored."""
    rows = tx.run(
        "SELECT v.name, r.seconds, json_extract(e.text, '$.voxels'),"
        " json_extract(e.text, '$.on_gpu'), v.fingerprint"
        " FROM result r JOIN volume v ON v.id = r.volume"
        " LEFT JOIN explanation e ON e.volume = r.volume AND e.model_version = r.model_version"
        " WHERE r.model_version = (SELECT id FROM model_version WHERE name = ?)"
        " AND r.seconds IS NOT NULL AND r.reason IS NULL ORDER BY v.name",
        model_version,
    )
    found = []
    for name, seconds, voxels, on_gpu, mark in rows:
        size = str(mark).split("-")[0]
        file_mb = int(size) / 1e6 if size.isdigit() else None
        found.append(Cost(name, float(seconds), voxels, bool(on_gpu), file_mb))
    return found


def record_failure(tx: Transaction, volume: str, model_version: str, reason: str) -> None:
    """Record that a volume cannot be scored; it is not stale any more until its file changes."""
    row, s = volumes.volume_row(tx, volume), ranking.model_version_row(tx, model_version)
    _replace_result(tx, row, s, reason=reason or "unknown reason")
    tx.run("UPDATE volume SET failed = 1 WHERE id = ?", row)
    mark_complete(tx, s)


def _replace_result(tx: Transaction, row: int, model_version_row: int, **columns: Any) -> None:
    tx.run("DELETE FROM result WHERE volume = ? AND model_version = ?", row, model_version_row)
    counted, available = tx.one("SELECT counted, available FROM volume WHERE id = ?", row)
    columns |= {"volume": row, "model_version": model_version_row, "at": tx.now}
    tx.insert("result", counted=counted, available=available, **columns)


def retry_failures(tx: Transaction, model_version: str) -> int:
    """Make failed volumes stale again; returns how many."""
    s = ranking.model_version_row(tx, model_version)
    tx.run(
        "UPDATE volume SET failed = 0 WHERE failed AND id IN"
        " (SELECT volume FROM result WHERE model_version = ? AND reason IS NOT NULL)",
        s,
    )
    return tx.run("DELETE FROM result WHERE model_version = ? AND reason IS NOT NULL", s).rowcount


# How far scoring has come


def mark_complete(tx: Transaction, model_version_row: int | None = None) -> None:
    """Note the first time that nothing was stale, of one model version or of all.

    From then on the model version is ranked by.
    """
    waiting = tx.run(
        "SELECT id FROM model_version WHERE completed_at IS NULL AND (?1 IS NULL OR id = ?1)",
        model_version_row,
    )
    for (s,) in waiting.fetchall():
        # From the end: volumes are scored from the front as a rule, so that a stale one is
        # found at once as long as there are many.
        stale_one = tx.exists(
            "SELECT 1 FROM volume v WHERE v.counted = 1 AND NOT EXISTS"
            " (SELECT 1 FROM result r WHERE r.volume = v.id AND r.model_version = ?)"
            " ORDER BY v.id DESC LIMIT 1",
            s,
        )
        if not stale_one:
            tx.run(
                "UPDATE model_version SET completed_at = ? WHERE id = ? AND EXISTS (SELECT 1 FROM"
                " result WHERE model_version = ? AND counted = 1 AND rank_ml IS NOT NULL)",
                *(tx.now, s, s),
            )


def stale(tx: Transaction, model_version: str, limit: int | None = None) -> list[str]:
    """Return volumes with neither score nor failure under a model version, most urgent first.

    Those come first that an annotator may get first, by what they scored last.
    """
    rows = tx.run(
        "SELECT v.name FROM volume v LEFT JOIN result r ON r.volume = v.id AND r.model_version ="
        " (SELECT max(p.id) FROM model_version p WHERE p.id <> ?1 AND p.completed_at IS NOT NULL)"
        " WHERE v.counted = 1 AND NOT EXISTS"
        " (SELECT 1 FROM result n WHERE n.volume = v.id AND n.model_version = ?1)"
        " ORDER BY v.status <> 'open', r.rank_ml DESC, v.name LIMIT ?2",
        ranking.model_version_row(tx, model_version),
        -1 if limit is None else limit,
    )
    return [name for (name,) in rows]


def failures(tx: Transaction, model_version: str) -> dict[str, str]:
    """Return by volume why it cannot be scored."""
    return dict(
        tx.run(
            "SELECT v.name, r.reason FROM result r JOIN volume v ON v.id = r.volume"
            " WHERE r.model_version = ? AND r.counted = 1 AND r.rank_ml IS NULL ORDER BY v.name",
            ranking.model_version_row(tx, model_version),
        )
    )


def progress(tx: Transaction, model_version: str) -> Progress:
    """Return how many volumes are scored, of how many."""
    row = ranking.model_version_row(tx, model_version)
    failed = (
        "SELECT count(*) FROM result WHERE model_version = ?1 AND counted = 1 AND rank_ml IS NULL"
    )
    sql = f"SELECT scored, ({failed}), ?2, completed_at FROM model_version WHERE id = ?1"
    return Progress(*tx.one(sql, row, volumes.counted(tx)))


# Why a volume ranks so


def _keep_explanation(
    tx: Transaction, row: int, model_version_row: int, explanation: Mapping[str, Any]
) -> None:
    """Keep why a volume ranks so; what a superseded model version said of it goes."""
    tx.run(
        f"DELETE FROM explanation WHERE volume = ? AND model_version IN ({ranking.SUPERSEDED})", row
    )
    tx.run(
        "INSERT OR REPLACE INTO explanation VALUES (?,?,?)",
        row,
        model_version_row,
        json.dumps(explanation, separators=(",", ":"), allow_nan=False),
    )


def explanation(tx: Transaction, volume: str, model_version: str) -> dict[str, Any] | None:
    """Return what was noted with a volume's score under a model version; None: nothing."""
    text = tx.value(
        "SELECT e.text FROM explanation e WHERE e.volume = (SELECT id FROM volume WHERE name = ?)"
        " AND e.model_version = (SELECT id FROM model_version WHERE name = ?)",
        volume,
        model_version,
    )
    if text is None:
        return None
    noted = dict(json.loads(text))
    noted.pop("on_gpu", None)  # what computed it, for :func:`costs`, explains nothing
    return noted


def familiar(tx: Transaction, model_version: str) -> dict[str, dict[str, Any]]:
    """Return by volume how its CT compares with the training CTs; kept with the score.

    As :func:`atlas8k.content.familiar.compare` says it. Volumes that were scored by a
    release that did not look are not in it.
    """
    rows = tx.run(
        "SELECT v.name, json_extract(e.text, '$.familiar') FROM explanation e"
        " JOIN volume v ON v.id = e.volume"
        " WHERE e.model_version = (SELECT id FROM model_version WHERE name = ?)"
        " AND json_extract(e.text, '$.familiar') IS NOT NULL ORDER BY v.name",
        model_version,
    )
    return {name: dict(json.loads(text)) for name, text in rows}
