"""The audit trail of a campaign: the real server, sign-in on, several people."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer, signed_in
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server
from typer.testing import CliRunner, Result

from atlas8k.cli import app
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store.audit_trail import verify

pytestmark = pytest.mark.slow
IMAGES = ("MUELLER-1952", "MEIER-1947", "SCHMIDT-1961")
REASON = "MEIER moved"


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with signed_in() as started:
        yield started


class Person:
    """Somebody at a computer."""

    def __init__(self, server: Server, token: str) -> None:
        self.server, self.headers = server, bearer(token)

    def ask(self, method: str, path: str, code: int = 200, **more: Any) -> requests.Response:
        answer = requests.request(
            method, self.server.url + path, headers=self.headers, timeout=LIMIT_S, **more
        )
        assert answer.status_code == code, answer.text[:500]
        return answer

    def label(self, image: str, content: bytes) -> int:
        answer = put_label(self.server, content, image, headers=self.headers)
        assert answer.status_code == 200, answer.text[:500]
        return int(answer.json()["submission"])


def campaign(server: Server, realm: Realm, folder: Path) -> None:
    """A day of three people."""
    sign_in = requests.post(
        f"{server.url}/auth/token",
        data={"username": "anna", "password": "anna's word"},
        timeout=LIMIT_S,
    )
    anna = Person(server, sign_in.json()["access_token"])
    ruth, adam = (Person(server, realm.token(name)) for name in ("ruth", "adam"))
    uwe = Person(server, realm.token("uwe"))
    first = anna.ask("POST", "/activelearning/first", json={}).json()["id"]
    assert first == "MEIER-1947"
    anna.ask("GET", f"/datastore/image?image={first}")
    anna.ask("POST", f"/atlas8k/volumes/{first}/exclude", json={"reason": REASON})
    uwe.ask("POST", f"/atlas8k/volumes/{first}/include", 403, json={})
    second = anna.ask("POST", "/activelearning/first", json={}).json()["id"]
    anna.label(second, label_bytes(folder))
    # Ruth did not know Anna's, and decides.
    mine = ruth.label(second, label_bytes(folder, 8))
    ruth.ask("GET", f"/datastore/label?label={second}&tag=final")
    ruth.ask("GET", f"/atlas8k/labels/{second}/history/1")
    ruth.ask("POST", f"/atlas8k/review/{second}/decide", json={"submission": mine})
    third = anna.ask("POST", "/activelearning/first", json={}).json()["id"]
    anna.ask("POST", f"/infer/ensemble?image={third}&output=image")
    anna.ask(
        "POST",
        f"/infer/ensemble?image={third}&output=json",
        data={"params": json.dumps({"save_label": True})},
    )
    anna.ask(
        "POST",
        f"/atlas8k/cases/{third}/confirm",
        json={"looked_at": "all", "volume_is_right": list(ORGAN_NAMES)},
    )
    adam.ask("POST", "/train/atlas8k", json={"max_epochs": 1, "steps_per_epoch": 1})
    adam.ask("DELETE", "/train/")
    adam.ask("DELETE", f"/datastore/image?id={first}")


@pytest.fixture(scope="module")
def studies(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after the campaign; its server was told to end."""
    folder = tmp_path_factory.mktemp("campaign")
    with small_server(folder, images=IMAGES) as server:
        campaign(server, realm, folder)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        assert "audit trail:" in server.text()
    return server.studies


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture(scope="module")
def exported(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("out") / "trail.jsonl"
    done = run("export", target, "--studies", studies)
    assert done.exit_code == 0, done.output
    return target


def test_it_verifies(studies: Path, exported: Path) -> None:
    for where in ([exported], ["--studies", studies]):
        done = run("verify", *where)
        assert done.exit_code == 0, done.output


def test_it_says_who_did_what(exported: Path) -> None:
    records = [json.loads(line) for line in exported.read_text().splitlines()]
    found = {(one["action"], one["by"].removeprefix("user:"), one.get("volume")) for one in records}
    meier, mueller, schmidt = 1, 2, 3
    expected = {
        ("sign_in", "anna", None),
        ("sign_in", "ruth", None),
        ("sign_in", "adam", None),
        ("sign_in", "uwe", None),
        ("sample", "anna", meier),
        ("look", "anna", meier),
        ("exclude", "anna", meier),
        ("sample", "anna", mueller),
        ("label", "anna", mueller),
        ("label", "ruth", mueller),
        ("look", "ruth", mueller),
        ("review", "ruth", mueller),
        ("sample", "anna", schmidt),
        ("look", "anna", schmidt),
        ("confirm", "anna", schmidt),
        ("train", "adam", None),
        ("image", "adam", meier),
    }
    assert expected <= found
    actions = {action for action, _, _ in found}
    assert {"begun", "started", "settings", "publish", "export"} <= actions
    assert ("include", "uwe", meier) not in found
    people = [one for one in records if one["action"] not in ("begun", "settings", "publish")]
    assert {one["address"] for one in people if one["by"][5:] in ("anna", "ruth", "adam")} == {
        "127.0.0.1"
    }
    looks = [one for one in records if (one["action"], one["by"]) == ("look", "user:ruth")]
    assert [one["detail"]["kind"] for one in looks] == ["label", "label"]


def test_nothing_of_a_patient_is_in_it(exported: Path) -> None:
    text = exported.read_text().lower()
    assert [name for name in ("mueller", "meier", "schmidt", " moved") if name in text] == []


def test_one_altered_byte_does_not_verify(exported: Path) -> None:
    whole = exported.read_bytes()
    for at in range(0, len(whole), 7):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert verify(changed.splitlines(keepends=True)).fault, at


def test_nor_does_a_record_removed_or_moved(exported: Path) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    for at in range(len(lines) - 1):
        assert verify(lines[:at] + lines[at + 1 :]).fault
        assert verify([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]).fault
