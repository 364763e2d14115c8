from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.store.kit import ANNA, BEN, check_consistent, query

from atlas8k.store import (
    Ledger,
    LedgerVersionError,
    NewLabel,
    OrganScore,
    OrganSource,
    Progress,
    audit_trail,
    label_files,
    schema,
)
from atlas8k.store.errors import LedgerFileError
from atlas8k.store.label_files import FileStamp


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A ledger as the release before wrote it: scores, a conflict, a dispute, a list, a lease."""
    path = tmp_path / "l.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        script = Path(__file__).with_name("ledger_8.sql").read_text(encoding="utf-8")
        connection.executescript(script)
        connection.execute("PRAGMA journal_mode = WAL")
    return path


def with_former_names(connection: sqlite3.Connection) -> None:
    """Call a model version a signature, as the tables up to version 13 did."""
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if any(
            row[1] == "model_version" for row in connection.execute(f"PRAGMA table_info({name})")
        )
    ]
    for name in tables:
        connection.execute(f"ALTER TABLE {name} RENAME COLUMN model_version TO signature")
    connection.execute("ALTER TABLE model_version RENAME TO signature")


def test_a_signature_is_a_model_version_from_14_on(tmp_path: Path) -> None:
    thirteen = Ledger(tmp_path / "thirteen.sqlite")
    thirteen.sync_volumes(["a"])
    thirteen.register_model_version("one")
    thirteen.record_score("a", "one", {"liver": OrganScore(2)})
    thirteen.begin_round("one")
    label = NewLabel("pseudo", "f", ".nii.gz", "0" * 64, FileStamp(1, 1), {"model_version": "one"})
    with thirteen.write() as tx:
        number = label_files.add(tx, "a", label)
        label_files.make_current(tx, "a", "pseudo", number, label.info)
    thirteen.close_round(closing={"model_version": "two", "note": "n"})
    thirteen.close()
    with closing(sqlite3.connect(thirteen.path)) as connection:
        with_former_names(connection)
        for table, column, key in (
            ("label_version", "info", "model_signature"),
            ("label", "info", "model_signature"),
            ("round", "closing", "signature"),
        ):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, 'model_version', ?)", (key,)
            )
        connection.execute("PRAGMA user_version = 13")
        connection.commit()
    again = Ledger(thirteen.path)
    check_consistent(again.path)
    assert again.progress("one").scored == 1
    assert again.rounds()[0].closing == {"model_version": "two", "note": "n"}
    assert query(again.path, "SELECT info FROM label_version") == [('{"model_version":"one"}',)]
    ((info,),) = query(again.path, "SELECT info FROM label")
    assert json.loads(info)["model_version"] == "one"
    assert "signature" not in str(query(again.path, "SELECT sql FROM sqlite_schema"))


def test_a_file_of_the_version_before_is_brought_up_to_date(before: Path) -> None:
    ledger = Ledger(before)
    check_consistent(before)
    assert query(before, "PRAGMA user_version") == [(schema.VERSION,)]
    assert ledger.statuses() == {
        "a": "conflict", "b": "submitted", "c": "leased", "d": "excluded", "e": "open",
    }  # fmt: skip
    assert ledger.progress("one") == Progress(3, 1, 4, 1_700_000_420.0)
    found = [(one.volume, one.rank, one.score) for one in ledger.ranking("one")]
    assert found == [("a", 1, 10.0), ("c", 2, 8.0), ("b", 3, 1.0)]
    with ledger.read() as tx:
        assert tx.setting("labels_to_remake") == '["a","b"]'
    assert ledger.sources("a") == {"liver": OrganSource("revised", "revised", None, 1)}
    (round_,) = ledger.rounds()
    assert (round_.reviewed, round_.budget, round_.model_version) == (2, 0.5, "one")
    plan = ledger.plan(1)
    assert plan is not None
    assert [line.volume for line in plan.lines] == ["a", "c", "d", "b"]
    assert [one.kind for one in ledger.reviews()] == ["conflict", "dispute"]
    assert [lease.volume for lease in ledger.leases()] == []  # it has run out since
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.rank, sample.ranked) == ("c", 2, 3)
    ledger.submit("c", ANNA)
    ledger.include("d")
    sample = ledger.next_sample(holder=BEN, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.audit) == ("d", True)
    check_consistent(before)


def test_of_a_store_without_an_audit_trail_the_chain_begins_with_the_upgrade(
    before: Path, tmp_path: Path
) -> None:
    nine = Ledger(tmp_path / "nine.sqlite")
    nine.sync_volumes(["a"])
    nine.lease("a", ANNA)
    nine.close()
    with closing(sqlite3.connect(nine.path)) as connection:
        with_former_names(connection)
        for name in ("audit_trail", "audit_reason"):
            connection.execute(f"DROP TABLE {name}")  # as version 9 was
        connection.execute("DROP TABLE selected")
        connection.execute("ALTER TABLE plan DROP COLUMN selection")
        connection.execute("ALTER TABLE result DROP COLUMN traits")
        connection.execute("PRAGMA user_version = 9")
    for path, version in ((before, 8), (nine.path, 9)):
        with closing(Ledger(path)) as ledger, ledger.read() as tx:
            (line,) = audit_trail.lines(tx)
            record = json.loads(line)
            assert record["action"] == "begun"
            assert record["previous"] == audit_trail.NONE_BEFORE
            assert record["detail"]["upgraded_from"] == version
            assert record["detail"]["schema"] == schema.VERSION
        check_consistent(path)
        assert path.with_name(f"{path.stem}-version-{version}.sqlite").exists()
    assert [lease.volume for lease in Ledger(nine.path).leases()] == ["a"]  # and all it had
    with Ledger(tmp_path / "new.sqlite").read() as tx:
        (line,) = audit_trail.lines(tx)
    assert "upgraded_from" not in json.loads(line)["detail"]


def test_features_of_explained_scores_are_kept_for_drawing(tmp_path: Path) -> None:
    ten = Ledger(tmp_path / "ten.sqlite")
    ten.sync_volumes(["a", "b", "c"])
    ten.register_model_version("one")
    found = {
        "features": [
            {"name": "phase", "value": "arterial", "like": None},
            {"name": "organs", "value": 7.0},
            {"name": "noise_hu", "value": 11.0},
        ]
    }
    for volume, noted in (("a", {"familiar": found}), ("b", {"regions": []}), ("c", None)):
        ten.record_score(volume, "one", {"liver": OrganScore(1)}, explanation=noted)
    ten.begin_round("one")
    ten.close()
    with closing(sqlite3.connect(ten.path)) as connection:  # as version 10 was
        with_former_names(connection)
        connection.execute("DROP TABLE selected")
        connection.execute("ALTER TABLE plan DROP COLUMN selection")
        connection.execute("ALTER TABLE result DROP COLUMN traits")
        connection.execute("PRAGMA user_version = 10")
    again = Ledger(ten.path)
    assert query(ten.path, "SELECT traits FROM result ORDER BY volume") == [
        ('{"phase":"arterial","organs":7.0}',), (None,), (None,),
    ]  # fmt: skip
    plan = again.plan(1)
    assert plan is not None
    assert plan.selection == "ranking"
    assert again.set_selection("stratified")
    assert again.stale("one") == ["b", "c"]  # and no list is drawn by what is not there
    check_consistent(ten.path)


def test_the_way_back_is_kept(before: Path) -> None:
    there = query(before, "SELECT sql FROM sqlite_schema ORDER BY name")
    volumes = query(before, "SELECT * FROM volume")
    Ledger(before).close()
    kept = before.with_name("l-version-8.sqlite")
    assert query(kept, "PRAGMA user_version") == [(8,)]
    assert query(kept, "SELECT sql FROM sqlite_schema ORDER BY name") == there
    assert query(kept, "SELECT * FROM volume") == volumes


def test_a_newer_release_beside_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(["a"])
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(LedgerVersionError, match="another release brought it to schema"):
        ledger.submit("a", ANNA)
    assert query(ledger.path, "SELECT count(*) FROM submission") == [(0,)]


def test_it_has_the_tables_of_a_new_one(before: Path, tmp_path: Path) -> None:
    Ledger(before)
    Ledger(tmp_path / "new.sqlite")
    names = query(before, "SELECT type, name FROM sqlite_schema ORDER BY type, name")
    assert names == query(
        tmp_path / "new.sqlite", "SELECT type, name FROM sqlite_schema ORDER BY type, name"
    )
    for kind, name in names:
        columns = f"SELECT * FROM pragma_table_xinfo('{name}')"
        assert query(before, columns) == query(tmp_path / "new.sqlite", columns), (kind, name)


def test_an_upgrade_that_fails_changes_nothing(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = query(before, "SELECT sql FROM sqlite_schema")
    run = schema._run

    def broken(connection: sqlite3.Connection, script: str) -> None:
        run(connection, script)
        connection.execute("INSERT INTO nowhere VALUES (1)")

    monkeypatch.setattr(schema, "_run", broken)
    with pytest.raises(LedgerFileError, match="no such table: nowhere"):
        Ledger(before)
    assert query(before, "PRAGMA user_version") == [(8,)]
    assert query(before, "SELECT sql FROM sqlite_schema") == there


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (schema.VERSION + 1, r"newer release .* upgrade atlas8k"),
        (schema.OLDEST - 1, r"too old .* open it once with the release before"),
    ],
)
def test_other_versions_are_refused_and_left_alone(
    tmp_path: Path, version: int, words: str
) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.close()
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerVersionError, match=words):
        Ledger(ledger.path)
    assert ledger.path.read_bytes() == before
