"""Two people, a disputed liver, second readings and reviews, over the real server."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.reviewing import INFO, Client, bring, slabs
from tests.e2e.small import LIMIT_S, small_server
from tests.server.tiny import GRID

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.labels.provenance import read_provenance
from atlas8k.store import OrganSource

pytestmark = pytest.mark.slow
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]
IMAGES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("review"), images=IMAGES) as started:
        yield started


def test_two_people_one_disputes_one_reopens_and_restores(client: Client, server: Server) -> None:
    label_service = bring(server, "a", liver=(2, 5), spleen=(8, 11), stomach=(14, 15))
    label_service.keep_public(
        "a", slabs(liver=(2, 6)), GRID, {"liver": OrganSource("public", "present", "LiTS")}
    )
    label_service.close()
    assert (client.organ("a", LIVER), client.organ("a", SPLEEN)) == ([2, 3, 4, 5], [8, 9, 10])
    start = client.label("a", "original")

    # Anna's case; Ben draws it, too, without having asked.
    sample = client.next("anna")
    assert sample["id"] == "a"
    hers, his = start.copy(), start.copy()
    hers[5], hers[11] = 0, SPLEEN
    his[8] = 0
    first = client.send("anna", "a", hers)
    assert (first["organs"]["liver"], first["organs"]["spleen"]) == ("revised", "revised")
    assert first["organs"]["stomach"] == "not_assessed"  # as it went out
    assert (first["disputes"], first["conflict"], first["in_force"]) == (["liver"], False, True)
    assert client.organ("a", LIVER) == [2, 3, 4, 5]  # public until decided
    assert client.organ("a", SPLEEN) == [8, 9, 10, 11]
    second = client.send("ben", "a", his)
    assert (second["conflict"], second["in_force"]) == (True, False)
    assert np.array_equal(client.label("a", "final"), hers)
    asked = client.get("/atlas8k/review")["open"]
    assert [(q["volume"], q["kind"], q["organ"]) for q in asked] == [
        ("a", "dispute", "liver"),
        ("a", "conflict", None),
    ]

    # A reviewer sees both and decides.
    sample = client.next("rita", "review")
    assert (sample["id"], sample["purpose"]) == ("a", "review")
    assert [question["kind"] for question in sample["reviews"]] == ["dispute", "conflict"]
    assert {one["holder"] for one in sample["submissions"]} == {"client:anna", "client:ben"}
    assert client.next("roy", "review") == {}
    path = f"/atlas8k/labels/a/history/{second['submission']}"
    answer = requests.get(client.server.url + path, timeout=LIMIT_S)
    file = client.folder / "his.nii.gz"
    file.write_bytes(answer.content)
    assert np.array_equal(read_label(file).array, his)
    said = read_provenance(file)
    assert said is not None
    assert (said.holder, said.submission) == ("client:ben", second["submission"])
    left = client.post("/atlas8k/review/a/decide", organ="Liver", source="revised")["left"]
    assert [one["kind"] for one in left] == ["conflict"]
    assert client.organ("a", LIVER) == [2, 3, 4]
    client.post("/atlas8k/review/a/decide", submission=second["submission"])
    assert client.get("/atlas8k/review")["open"] == []
    assert client.organ("a", SPLEEN) == [9, 10]
    assert np.array_equal(client.label("a", "final"), his)

    # Opened again, it is the next one, with its last revision and the note.
    client.post("/atlas8k/labels/a/reopen", note="see the tip", client_id="anna", mine=True)
    assert client.next("ben")["id"] != "a"
    sample = client.next("anna")
    assert (sample["id"], sample["note"]) == ("a", "see the tip")
    assert client.organ("a", SPLEEN) == [9, 10]
    third = client.send("anna", "a", client.label("a", "original"))
    assert (third["conflict"], third["organs"]["spleen"]) == (False, "not_assessed")
    client.post("/atlas8k/labels/a/restore", submission=first["submission"])
    assert np.array_equal(client.label("a", "final"), hers)
    assert client.organ("a", LIVER) == [2, 3, 4]
    history = client.get("/atlas8k/labels/a/history")
    assert [one["in_force"] for one in history["history"]] == [False, False, False, True]
    assert all(one["there"] for one in history["history"])
    assert history["organs"]["liver"]["source"] == "revised"


def test_returned_and_taken_over(client: Client, server: Server) -> None:
    bring(server, "f", liver=(2, 5)).close()
    client.send("carl", "f", slabs(liver=(2, 6)))
    client.send("dora", "f", slabs(liver=(2, 7)))
    client.post("/atlas8k/review/f/return", 422, note="")
    reply = client.post("/atlas8k/review/f/return", note="the dome", client_id="rita")
    assert reply["to"] == "client:carl"
    waiting = client.get("/atlas8k/review")["returned"]
    assert [(one["volume"], one["note"]) for one in waiting] == [("f", "the dome")]
    assert client.next("carl")["note"] == "the dome"
    client.send("carl", "f", slabs(liver=(2, 8)))
    client.post("/atlas8k/review/f/accept", 409)
    client.send("dora", "f", slabs(liver=(2, 9)))  # she began before he did
    client.post("/atlas8k/review/f/take-over", client_id="rita")
    mine = client.send("rita", "f", slabs(liver=(3, 9)))
    assert (mine["in_force"], mine["conflict"]) == (True, False)
    case = client.get("/atlas8k/review/f")
    assert case["status"] == "submitted"
    assert all(one["closed_at"] for one in case["reviews"])
    assert client.organ("f", LIVER) == [3, 4, 5, 6, 7, 8]


def without_place(content: bytes) -> bytes:
    """A NIfTI file whose affine's first number (srow_x, byte 280) is NaN."""
    data = bytearray(gzip.decompress(content))
    struct.pack_into("<f", data, 280, np.nan)
    return gzip.compress(bytes(data))


def bad_files(folder: Path) -> dict[str, tuple[str, bytes]]:
    """What must not be taken, by what is wrong with it."""

    def nifti(array: npt.NDArray[Any], affine: npt.NDArray[Any] = GRID.affine) -> bytes:
        path = folder / "bad.nii.gz"
        nib.save(nib.Nifti1Image(array, affine), path)
        return path.read_bytes()

    good = slabs(liver=(2, 6))
    elsewhere = np.array(GRID.affine)
    elsewhere[0, 3] += 5
    return {
        "no bytes": ("a.nii.gz", b""),
        "no image": ("a.nii.gz", b"garbage" * 100),
        "cut off": ("a.nii.gz", nifti(good)[:-40]),
        "nothing drawn": ("a.nii.gz", nifti(good * 0)),
        "elsewhere": ("a.nii.gz", nifti(good, elsewhere)),
        "another spacing": ("a.nii.gz", nifti(good, np.diag([-3.0, 3.0, 3.0, 1.0]))),
        "larger than the CT": ("a.nii.gz", nifti(np.pad(good, 1))),
        "unknown organ": ("a.nii.gz", nifti((good + 7 * (good > 0)).astype(np.uint8))),
        "negative": ("a.nii.gz", nifti(good.astype(np.int16) - 1)),
        "fractions": ("a.nii.gz", nifti(good.astype(np.float32) / 2 + 0.25)),
        "not numbers": ("a.nii.gz", nifti(np.full(GRID.shape, np.nan, np.float32))),
        "no place in space": ("a.nii.gz", without_place(nifti(good))),
        "flat": ("a.nii.gz", nifti(good[:, :, 0])),
        "text": ("a.nrrd", b"NRRD0004\ntype: int\n"),
    }


def test_bad_input_is_422_with_a_reason_and_the_label_stays(client: Client, server: Server) -> None:
    bring(server, "c", liver=(2, 5)).close()
    kept = client.send("anna", "c", slabs(liver=(2, 6)))
    before = [client.label("c", tag).tobytes() for tag in ("final", "original")]

    def refused(what: str, answer: requests.Response) -> None:
        assert answer.status_code == 422, f"{what}: {answer.status_code} {answer.text[:300]}"
        assert answer.json()["detail"], what

    for what, (name, content) in bad_files(client.folder).items():
        refused(what, client.raw("c", name, content, client_id="ben"))
    good = write_nifti(client.folder / "good.nii.gz", slabs(liver=(2, 6)), GRID).read_bytes()
    for what, more in {
        "a name that is none": {"label_info": [{"name": "heart"}] * 5},
        "no list": {"label_info": "liver"},
        "attention": {"label_info": [*INFO[:4], {"name": "attention_liver"}]},
        "absent and drawn": {"absent": ["liver"]},
        "absent, no organ": {"absent": ["heart"]},
    }.items():
        refused(what, client.raw("c", "a.nii.gz", good, client_id="ben", **more))
    two = slabs(liver=(2, 4), spleen=(4, 6))
    two = write_nifti(client.folder / "two.nii.gz", two, GRID).read_bytes()
    twice = {"label_info": [{"name": "liver"}] * 8}
    refused("two of one name", client.raw("c", "a.nii.gz", two, client_id="ben", **twice))
    for tag in ("original", "pseudo", "public"):
        answer = requests.put(
            f"{server.url}/datastore/label?image=c&tag={tag}",
            files={"label": ("a.nii.gz", good)},
            timeout=LIMIT_S,
        )
        refused(tag, answer)
    assert [client.label("c", tag).tobytes() for tag in ("final", "original")] == before
    (only,) = client.get("/atlas8k/labels/c/history")["history"]
    assert only["id"] == kept["submission"]


def test_nobody_changes_what_the_server_says_of_a_label(client: Client, server: Server) -> None:
    bring(server, "d", liver=(2, 5)).close()
    client.send("anna", "d", slabs(liver=(2, 6)), present=["aorta"], organs={"aorta": 1})
    where = f"{server.url}/datastore/label/info?label=d&tag=final"
    before = client.get("/datastore/label/info?label=d&tag=final")
    assert before["present"] == ["liver"]
    for key in ("present", "absent", "organs", "submission", "params", "model_version"):
        answer = requests.put(where, data={"info": json.dumps({key: []})}, timeout=LIMIT_S)
        assert answer.status_code == 422, key
        assert key in answer.json()["detail"]
    answer = requests.put(where, data={"info": '{"comment": "hard"}'}, timeout=LIMIT_S)
    assert answer.status_code == 200
    after = client.get("/datastore/label/info?label=d&tag=final")
    assert after == {**before, "comment": "hard"}
    gone = requests.delete(f"{server.url}/datastore/label?id=d&tag=final", timeout=LIMIT_S)
    assert gone.status_code == 409
    for path, body, code in [
        ("labels/nothing/reopen", {}, 404),
        ("labels/e/reopen", {}, 409),
        ("labels/d/restore", {"submission": 999}, 404),
        ("labels/d/restore", {"submission": "x"}, 422),
        ("review/d/decide", {}, 422),
        ("review/d/decide", {"organ": "heart", "source": "public"}, 404),
        ("review/d/decide", {"organ": "liver", "source": "public"}, 409),
        ("review/d/decide", {"submission": 1, "organ": "liver"}, 422),
    ]:
        client.post(f"/atlas8k/{path}", code, **body)


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("double")
    more = ("--conf", "double_read_percent", "100", "--conf", "review_percent", "100")
    with small_server(folder, *more, images=("a", "b")) as started:
        yield started


def test_a_second_reader_sees_what_the_first_was_given(double: Server, tmp_path: Path) -> None:
    client = Client(double, tmp_path)
    bring(double, "a", liver=(2, 5)).close()
    start = client.label("a", "original")
    before = client.get("/datastore/label/info?label=a&tag=original")
    client.next("anna")
    client.send("anna", "a", slabs(liver=(2, 6)))
    assert client.organ("a", LIVER) == [2, 3, 4, 5]
    waiting = client.get("/atlas8k/review")["second_readings"]
    assert [(one["volume"], one["anonymous"]) for one in waiting] == [("a", None)]
    assert client.next("anna")["id"] == "b"
    sample = client.next("ben")
    assert (sample["id"], sample["purpose"], sample["base_submission"]) == ("a", "revise", None)
    assert np.array_equal(client.label("a", "original"), start)
    info = client.get("/datastore/label/info?label=a&tag=original")
    assert info["checksum"] == before["checksum"]
    reply = client.send("ben", "a", slabs(liver=(2, 5)))
    assert (reply["conflict"], reply["organs"]["liver"]) == (False, "not_assessed")
    assert (reply["review"], reply["in_force"]) == ([], True)  # nothing gives the first away
    assert client.organ("a", LIVER) == [2, 3, 4, 5]  # Anna's, until decided
    case = client.get("/atlas8k/review/a")
    assert {one["kind"] for one in case["reviews"]} == {"sample", "double_read"}
    assert case["agreement"][0]["organs"]["liver"]["dsc"] == pytest.approx(2 * 3 / 7)


def test_anonymous_readers_are_told_apart_by_nothing(double: Server, tmp_path: Path) -> None:
    client = Client(double, tmp_path)
    bring(double, "b", liver=(2, 5)).close()
    client.post("/activelearning/first", client_id="user-xyz")
    client.send("user-xyz", "b", slabs(liver=(2, 6)))
    assert client.next("user-xyz") == {}
    (waiting,) = client.get("/atlas8k/review")["second_readings"]
    assert "anonymous" in waiting["anonymous"]
    again = client.send("user-xyz", "b", slabs(liver=(2, 7)))
    assert again["conflict"]
    assert client.organ("b", LIVER) == [2, 3, 4, 5]
