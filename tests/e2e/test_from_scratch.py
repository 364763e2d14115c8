"""A second reading from scratch: no draft label, prediction or place before it is in."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import numpy as np
import pytest
import requests
from PIL import Image
from tests.e2e.harness import Server
from tests.e2e.realm import Realm
from tests.e2e.second_reader import THUMBNAIL, Person, says_nothing
from tests.e2e.small import LIMIT_S, small_server

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label

pytestmark = pytest.mark.slow
CLOSED = "read from scratch"


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    more = ("--conf", "double_read_percent", "100", "--conf", "double_read_start", "empty")
    folder = tmp_path_factory.mktemp("scratch")
    with small_server(folder, *more, images=("a",)) as started:
        anna = Person(started, realm, "anna")
        end = time.monotonic() + 10 * LIMIT_S
        while not anna.ask("GET", "/info/").json()["atlas8k"]["scored"]:
            assert time.monotonic() < end, started.text()[-3000:]
            time.sleep(0.5)
        yield started


def infer(person: Person, model: str) -> requests.Response:
    return person.ask("POST", f"/infer/{model}?image=a&output=image")


def test_nothing_is_shown_before_it_is_in(server: Server, realm: Realm) -> None:
    anna, ben = Person(server, realm, "anna"), Person(server, realm, "ben")
    sample = anna.next()
    assert sample["explanation"]
    label = "/datastore/label?label=a&tag="
    assert anna.ask("GET", f"{label}original").status_code == 200
    assert infer(anna, "draft").status_code == 200
    assert anna.submit(5).status_code == 200
    first = anna.ask("GET", f"{label}final").content
    # Who has read it sees what is there.
    shown = infer(anna, "draft")
    assert shown.status_code == 200
    path = server.log.parent / "shown.nii.gz"
    path.write_bytes(shown.content)
    assert (read_label(path).array == ORGAN_IDS["liver"]).sum() >= 180
    assert infer(anna, "ensemble").status_code == 200

    for step in ("waits", "reads"):
        if step == "reads":
            sample = ben.next()
            assert (sample["id"], sample["purpose"]) == ("a", "revise")
            assert "explanation" not in sample
            assert sample["organs"] == []
        says_nothing(ben.everything(), first)
        for tag in ("original", "pseudo", "final"):
            assert ben.ask("GET", f"{label}{tag}").status_code == 404, tag
        for model in ("ensemble", "unet", "attention", "draft"):
            answer = infer(ben, model)
            assert answer.status_code == 409, f"{model}: {answer.text[:300]}"
            assert CLOSED in answer.json()["detail"]
        other = ben.ask("GET", THUMBNAIL)
        assert other.status_code == 200
        rgb = np.asarray(Image.open(io.BytesIO(other.content)).convert("RGB")).astype(int)
        assert (rgb.max(axis=2) - rgb.min(axis=2)).max() < 12, "an organ or a box is drawn"
    case = next(one for one in ben.ask("GET", "/atlas8k/cases/list").json()["open"])
    assert (case["image"], case["organs"], case["regions"]) == ("a", [], [])
    page = ben.ask("GET", "/atlas8k/case?image=a")
    assert page.status_code == 200, page.text[:300]
    assert "/infer/" not in page.text

    # Compared with nothing, so that what is drawn is changed, and how far the two agree is kept.
    answer = ben.submit(5)
    assert answer.status_code == 200, answer.text
    assert answer.json()["organs"]["liver"] == "revised"
    (pair,) = agreement(server, realm)
    assert pair["organs"]["liver"]["dsc"] == 1.0
    assert infer(ben, "ensemble").status_code == 200
    assert ben.ask("GET", f"{label}final").content == first


def agreement(server: Server, realm: Realm) -> list[dict[str, dict[str, dict[str, float]]]]:
    """How far the two readings agree, as a reviewer is told."""
    answer = Person(server, realm, "ruth").ask("GET", "/atlas8k/review/a")
    found: list[dict[str, dict[str, dict[str, float]]]] = answer.json()["agreement"]
    return found
