from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger.kit import ANNA, BEN, check_consistent, query

from atlas8k.ledger import Ledger, LedgerVersionError, OrganChange, OrganSource
from atlas8k.ledger import migrations as steps
from atlas8k.ledger.errors import LedgerFileError
from atlas8k.ledger.records import OLDER_RULE


def version_1(path: Path) -> None:
    """A ledger as the first release wrote it: two volumes, a score, a lease, a conflict."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in steps.statements(steps.MIGRATIONS[0]):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(f"PRAGMA application_id = {steps.APPLICATION_ID}")
        connection.executescript("""
            INSERT INTO volume (name, first_seen, shuffle) VALUES ('a', 1, 5), ('b', 1, 3);
            INSERT INTO signature (name, detail, registered_at) VALUES ('one', '{}', 1);
            INSERT INTO round (signature, opened_at, budget, reviewed) VALUES (1, 1, 0.05, 1);
            INSERT INTO result VALUES (1, 1, 2, NULL, 7, 7, 179, NULL, 1);
            INSERT INTO score VALUES (1, 1, 5, 7, 3, 2, 2, 1);
            INSERT INTO queue SELECT volume, signature, organ, ml, source FROM queue_due;
            INSERT INTO submission (volume, holder, anonymous, submitted_at, round, conflict)
              VALUES (2, 'user:anna', 0, 3, 1, 0), (2, 'client:ben', 0, 4, 1, 1);
            UPDATE volume SET status = 'conflict', current_submission = 1 WHERE id = 2;
        """)


def test_a_version_1_file_is_brought_up_to_date_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    version_1(path)
    check_consistent(path)
    ledger = Ledger(path)
    assert query(path, "PRAGMA user_version") == [(steps.VERSION,)]
    assert ledger.statuses() == {"a": "open", "b": "conflict"}
    assert ledger.ranking("one")[0].attention_ml == 7
    (review,) = ledger.reviews()  # a conflict of then is a question of now
    assert (review.volume, review.submission, review.other) == ("b", 1, 2)
    assert [s.holder for s in ledger.submissions("b")] == [ANNA.key, BEN.key]
    ledger.submit("a", ANNA, organs={"liver": OrganChange("revised")})
    ledger.resolve("b", 2)
    assert ledger.statuses() == {"a": "submitted", "b": "submitted"}
    check_consistent(path)


def test_a_migrated_file_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    version_1(tmp_path / "old.sqlite")
    schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name"
    Ledger(tmp_path / "old.sqlite")
    Ledger(tmp_path / "new.sqlite")
    assert query(tmp_path / "old.sqlite", schema) == query(tmp_path / "new.sqlite", schema)


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.sqlite"
    version_1(path)
    before = query(path, "SELECT sql FROM sqlite_schema")
    broken = (*steps.MIGRATIONS, "CREATE TABLE extra (x);\nINSERT INTO nowhere VALUES (1);\n")
    monkeypatch.setattr(steps, "MIGRATIONS", broken)
    with pytest.raises(LedgerFileError, match="no such table: nowhere"):
        Ledger(path)
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert query(path, "SELECT sql FROM sqlite_schema") == before


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.close()
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute(f"PRAGMA user_version = {steps.VERSION + 1}")
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerVersionError, match=r"newer release .* upgrade atlas8k"):
        Ledger(ledger.path)
    assert ledger.path.read_bytes() == before


def test_a_script_that_ends_in_the_middle_is_noticed() -> None:
    with pytest.raises(ValueError, match="incomplete"):
        list(steps.statements("CREATE TABLE a (x);\nCREATE TABLE b ("))


def test_a_version_5_file_counts_its_rounds_anew(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for script in steps.MIGRATIONS[:5]:
            for statement in steps.statements(script):
                connection.execute(statement)
        connection.execute("PRAGMA user_version = 5")
        connection.execute(f"PRAGMA application_id = {steps.APPLICATION_ID}")
        # `a` was given out in the first round and came in during the second, as did a second
        # reading of `b` and the label of `c`, which was in the folder.
        connection.executescript("""
            INSERT INTO volume (name, first_seen, shuffle)
              VALUES ('a', 1, 5), ('b', 1, 3), ('c', 1, 4);
            INSERT INTO signature (name, detail, registered_at, completed_at)
              VALUES ('one', '{}', 1, 2);
            INSERT INTO setting VALUES ('stop_after', '4');
            INSERT INTO round (signature, opened_at, closed_at, budget, reviewed, audited)
              VALUES (1, 1, 6, 0.4, 1, 0), (1, 6, NULL, 0.4, 3, 0);
            INSERT INTO plan VALUES (1, 1, 'eq4', 2, 1, 0, 50, 'seed', 1);
            INSERT INTO plan_volume VALUES (1, 1, 2, 9, NULL), (1, 2, 1, 7, 1), (1, 3, 3, 5, NULL);
            INSERT INTO lease (volume, holder, anonymous, strategy, round, taken_at, expires_at,
              ended_at, outcome) VALUES (1, 'user:anna', 0, 'audit', 1, 5, 99, 8, 'submitted');
            INSERT INTO submission (volume, holder, anonymous, submitted_at, round, lease, purpose)
              VALUES (2, 'user:anna', 0, 4, 1, NULL, 'revise'),
                (1, 'user:anna', 0, 8, 2, 1, 'revise'),
                (2, 'client:ben', 0, 9, 2, NULL, 'double_read'),
                (3, 'folder:labels/final', 0, 9, 2, NULL, 'revise');
            UPDATE volume SET status = 'submitted';
            UPDATE volume SET current_submission = 1 WHERE id = 2;
            UPDATE volume SET current_submission = 2 WHERE id = 1;
            UPDATE volume SET current_submission = 4 WHERE id = 3;
            UPDATE volume SET lease = NULL;
        """)
    ledger = Ledger(path)
    assert [(one.reviewed, one.audited) for one in ledger.rounds()] == [(2, 1), (0, 0)]
    assert [(one.round, one.purpose) for one in ledger.worked()] == [
        (1, "revise"), (1, "revise"), (2, "double_read"), (2, "adopted"),
    ]  # fmt: skip
    plan = ledger.plan(1)
    assert plan is not None
    assert (plan.stop_after, plan.top, plan.reviewed) == (4, 1, 0)
    check_consistent(path)


def test_what_was_confirmed_by_the_older_rule_stays_so_and_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for script in steps.MIGRATIONS[:6]:
            for statement in steps.statements(script):
                connection.execute(statement)
        connection.execute("PRAGMA user_version = 6")
        connection.execute(f"PRAGMA application_id = {steps.APPLICATION_ID}")
        connection.executescript("""
            INSERT INTO volume (name, first_seen, shuffle) VALUES ('a', 1, 5);
            INSERT INTO round (opened_at, budget, reviewed) VALUES (1, 0.4, 1);
            INSERT INTO submission (volume, holder, anonymous, submitted_at, round)
              VALUES (1, 'user:anna', 0, 4, 1);
            INSERT INTO submission_organ VALUES
              (1, 5, 'confirmed', 9, 9, 0, 1), (1, 8, 'revised', 9, 8, 1, 0.9),
              (1, 1, 'not_confirmed', 0, 0, 0, NULL), (1, 9, 'unchanged', 7, 7, 0, 1);
            INSERT INTO provenance VALUES
              (1, 5, 'revised', 'confirmed', NULL, 1, 0, 4),
              (1, 8, 'revised', 'revised', NULL, 1, 0, 4),
              (1, 1, 'pseudo', 'not_confirmed', NULL, 1, 0, 4);
            UPDATE volume SET status = 'submitted', current_submission = 1;
            DELETE FROM unsettled;
        """)
    ledger = Ledger(path)
    assert ledger.changes(1) == {
        "aorta": OrganChange("not_assessed", 0, 0, 0, None),
        "liver": OrganChange("confirmed", 9, 9, 0, 1.0, OLDER_RULE),
        "spleen": OrganChange("revised", 9, 8, 1, 0.9),
        "stomach": OrganChange("not_assessed", 7, 7, 0, 1.0),
    }
    assert ledger.sources("a") == {
        "liver": OrganSource("revised", "confirmed", None, 1),
        "spleen": OrganSource("revised", "revised", None, 1),
    }
    (work,) = ledger.worked()
    assert work.organs["liver"].note == OLDER_RULE
    # Its triggers are there again.
    ledger.set_sources("a", {"pancreas": OrganSource("public", "present", "LiTS")})
    assert ledger.unsettled() != {}
    check_consistent(path)
