"""The app as MONAI Label loads it, and its routes, in this process."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance, clear_cache
from tests.server.tiny import GRID

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import write_nifti
from atlas8k.server.app import Atlas8kApp

MAIN = Path(__file__).parents[2] / "apps" / "atlas8k" / "main.py"


@pytest.fixture
def client(
    tmp_path: Path, studies: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """MONAI Label's own application over the app folder, as uvicorn runs it."""
    import monailabel.app

    app_dir = tmp_path / "app"
    app_dir.mkdir()
    shutil.copy(MAIN, app_dir)
    for key, value in {
        "MONAI_LABEL_APP_DIR": str(app_dir),
        "MONAI_LABEL_STUDIES": str(studies),
        "MONAI_LABEL_APP_CONF": {
            "models": str(models),
            "device": "cpu",
            "all_routes": "true",
        },
        "MONAI_LABEL_AUTO_UPDATE_SCORING": False,
        "MONAI_LABEL_SESSION_PATH": str(tmp_path / "sessions"),
    }.items():
        monkeypatch.setattr(settings, key, value)
    clear_cache()
    with TestClient(
        monailabel.app.app, base_url="http://127.0.0.1", raise_server_exceptions=False
    ) as opened:
        yield opened
    app_instance().close()
    clear_cache()


def sync(client: TestClient, kind: str, **params: Any) -> Any:
    answer = client.post(f"{kind}?run_sync=true", json=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sent(array: np.ndarray, folder: Path) -> dict[str, tuple[str, bytes]]:
    path = write_nifti(folder / "sent.nii.gz", array.astype(np.uint8), GRID)
    return {"label": ("label.nii.gz", path.read_bytes())}


def test_what_is_registered(client: TestClient) -> None:
    info = client.get("/info/").json()
    assert list(info["models"]) == [
        "ensemble",
        "swin_unetr",
        "unet",
        "nnunet",
        "attention",
        "draft",
        "strokes",
    ]
    assert list(info["strategies"]) == [
        "attention", "first", "random", "random_foreground", "stratified", "review",
    ]  # fmt: skip
    assert list(info["scoring"]) == ["attention"]
    assert list(info["trainers"]) == ["atlas8k"]
    assert info["labels"] == list(ORGAN_NAMES)
    assert info["models"]["ensemble"]["labels"] == dict(ORGAN_IDS)
    names = info["models"]["attention"]["labels"]
    assert not set(names) & set(ORGAN_NAMES)
    assert list(names.values()) == list(range(1, 10))
    assert info["atlas8k"]["total"] == 3


@pytest.mark.parametrize("model", ["ensemble", "swin_unetr", "unet", "nnunet", "attention"])
def test_a_result_lies_on_the_cts_own_grid(client: TestClient, model: str, tmp_path: Path) -> None:
    answer = client.post(f"/infer/{model}?image=a&output=image")
    assert answer.status_code == 200
    path = tmp_path / "result.nii.gz"
    path.write_bytes(answer.content)
    image = nib.load(path)
    assert image.shape == GRID.shape
    assert np.array_equal(image.affine, GRID.affine)
    params = client.post(f"/infer/{model}?image=a&output=json").json()
    assert params["attention_total_ml"] == pytest.approx(
        sum(params["attention_ml"].values()), abs=0.01
    )
    assert set(np.unique(image.get_fdata())) <= {0, *params["label_names"].values()}
    left = Path(answer.headers["content-disposition"].split('"')[1])
    assert not (Path("/tmp") / left.name).exists()  # the reply's file is gone


def test_an_upload_is_predicted_and_not_kept(client: TestClient, studies: Path) -> None:
    content = (studies / "b.nii.gz").read_bytes()
    files = {"file": ("mine.nii.gz", content)}
    answer = client.post("/infer/unet?output=json", files=files, data={"params": "{}"})
    assert answer.status_code == 200, answer.text
    assert sorted(path.name for path in studies.glob("*.nii.gz")) == [
        "a.nii.gz",
        "b.nii.gz",
        "c.nii.gz",
    ]


def test_a_result_is_kept_where_asked_for(client: TestClient) -> None:
    params = json.dumps({"save_label": True, "label_tag": "mine"})
    answer = client.post("/infer/ensemble?image=a&output=json", data={"params": params})
    # Untrained networks may find nothing, and an empty label is not kept.
    assert answer.status_code in {200, 422}, answer.text
    tags = client.get("/datastore/").json()["label_tags"]
    assert ("mine" in tags) == (answer.status_code == 200)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"save_label": True, "label_tag": "final"}, 422),
        ({"image": "/etc/passwd"}, 404),
        ({"image": "../b"}, 404),
        ({"image": 3}, 422),
        ({"model": "nothing"}, 404),
    ],
)
def test_params_cannot_reach_what_a_request_may_not(
    client: TestClient, params: dict[str, Any], code: int
) -> None:
    answer = client.post("/infer/ensemble?image=a", data={"params": json.dumps(params)})
    assert answer.status_code == code, answer.text
    assert client.get("/datastore/").json()["completed"] == 0


def test_attention_is_sent_as_boxes_unless_an_image_is_asked_for(client: TestClient) -> None:
    # As 3D Slicer asks: no output named, the options of the model sent along.
    options = client.get("/info/").json()["models"]["attention"]["config"]
    params = {key: value[0] if isinstance(value, list) else value for key, value in options.items()}
    params |= {"result_extension": ".nrrd", "client_id": "user-xyz"}
    answer = client.post("/infer/attention?image=a", data={"params": json.dumps(params)})
    assert answer.status_code == 200
    assert re.search(rb'filename="[^"]+\.json"', answer.content)
    assert b"markups-schema" in answer.content
    for url, more in (
        ("/infer/attention?image=a", {"form": "label"}),
        # As OHIF asks.
        ("/infer/attention?image=a&output=image", {"restore_label_idx": False}),
    ):
        answer = client.post(url, data={"params": json.dumps(params | more)})
        assert answer.status_code == 200
        assert b"markups-schema" not in answer.content
    refused = client.post("/infer/attention?image=a", data={"params": '{"form": "mesh"}'})
    assert refused.status_code == 422
    assert "boxes and label" in refused.text


def test_attention_regions_are_never_a_label(client: TestClient) -> None:
    params = json.dumps({"save_label": True})
    answer = client.post("/infer/attention?image=a", data={"params": params})
    assert answer.status_code == 422


def test_the_circle(client: TestClient, tmp_path: Path) -> None:
    assert sync(client, "/scoring/attention") == {"scored": 3, "failed": 0, "set_aside": 0}
    first = client.post("/activelearning/attention", json={"client_id": "anna"}).json()
    assert (first["rank"], first["total"]) == (1, 3)
    assert first["checksum"].startswith("SHA256:")

    array = np.zeros(GRID.shape)
    array[8:14, 8:13, 6:12] = ORGAN_IDS["liver"]
    params = {"params": json.dumps({"client_id": "anna"})}
    where = f"/datastore/label?image={first['id']}"
    reply = client.put(where, files=sent(array, tmp_path), data=params).json()
    assert (reply["late"], reply["conflict"], reply["round"]) == (False, False, 1)
    assert client.get("/info/").json()["datastore"]["completed"] == 1

    stats = sync(client, "/train/atlas8k", max_epochs=1, steps_per_epoch=1)
    assert stats["model_version"] == client.get("/info/").json()["atlas8k"]["model_version"]
    assert sync(client, "/scoring/attention")["scored"] == 3
    second = client.post("/activelearning/attention", json={"client_id": "anna"}).json()
    assert second["id"] != first["id"]
    assert second["model_version"] == stats["model_version"]
    assert second["round"] == 2


def test_two_submissions_of_one_volume_both_stay(client: TestClient, tmp_path: Path) -> None:
    array = np.zeros(GRID.shape)
    array[8:14, 8:13, 6:12] = 5
    replies = []
    for name, value in (("anna", 5), ("ben", 8)):
        params = {"params": json.dumps({"client_id": name})}
        files = sent(np.where(array, value, 0), tmp_path)
        replies.append(client.put("/datastore/label?image=a", files=files, data=params).json())
    assert [reply["conflict"] for reply in replies] == [False, True]
    ledger = app_instance().context.ledger
    assert [entry.holder for entry in ledger.submissions("a")] == ["client:anna", "client:ben"]
    assert len(app_instance().context.studies.index.label_versions("a", "final")) == 2
    # The earlier one stays current, in the folder as in the ledger.
    path = tmp_path / "kept.nii.gz"
    path.write_bytes(client.get("/datastore/label?label=a&tag=final").content)
    assert set(np.unique(nib.load(path).get_fdata())) == {0, 5}
    assert (replies[1]["in_force"], replies[1]["review"]) == (False, ["conflict"])


def test_nothing_is_started_when_nothing_is_stale(client: TestClient) -> None:
    from monailabel.utils.async_tasks.utils import tasks

    sync(client, "/scoring/attention")
    before = len(tasks("scoring"))
    answer = client.post("/scoring/attention", json={})
    assert answer.status_code == 200
    assert answer.json()["status"] == "DONE"
    assert "nothing is stale" in answer.json()["details"][0]
    assert app_instance().async_scoring(None) == {}
    assert len(tasks("scoring")) == before


@pytest.mark.parametrize(
    ("method", "path", "code", "word"),
    [
        ("POST", "/infer/nothing?image=a", 404, "ensemble"),
        ("POST", "/infer/ensemble?image=nothing", 404, "nothing"),
        ("POST", "/activelearning/nothing", 404, "attention"),
        ("POST", "/scoring/nothing", 404, "attention"),
        ("POST", "/train/nothing", 404, "atlas8k"),
        ("POST", "/batch/infer/nothing", 404, "ensemble"),
        ("GET", "/datastore/image?image=nothing", 404, ""),
        ("GET", "/datastore/image/info?image=nothing", 404, "nothing"),
        ("GET", "/datastore/image/info?image=../x", 422, "../x"),
        ("GET", "/datastore/label?label=a&tag=nothing", 404, ""),
        ("GET", "/datastore/label?label=a&tag=../../evil", 422, "evil"),
        ("GET", "/datastore/label/info?label=a&tag=nothing", 404, "a"),
        ("DELETE", "/datastore/label?id=a&tag=nothing", 404, "a"),
        ("POST", "/train/atlas8k?run_sync=true", 409, "submit"),
    ],
)
def test_bad_requests(client: TestClient, method: str, path: str, code: int, word: str) -> None:
    answer = client.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == code, answer.text
    assert word in answer.json()["detail"]


@pytest.mark.parametrize("name", ["label.nii.gz", "label.nii", "label.txt", ""])
def test_a_label_that_is_none_leaves_the_good_one(
    client: TestClient, name: str, tmp_path: Path
) -> None:
    array = np.zeros(GRID.shape)
    array[8:14, 8:13, 6:12] = 5
    client.put("/datastore/label?image=a", files=sent(array, tmp_path))
    files = {"label": (name or "x", io.BytesIO(b"garbage"))}
    answer = client.put("/datastore/label?image=a", files=files)
    assert answer.status_code == 422
    path = tmp_path / "kept.nii.gz"
    path.write_bytes(client.get("/datastore/label?label=a&tag=final").content)
    assert np.array_equal(nib.load(path).get_fdata(), array)


def test_a_new_app_object_keeps_the_routes(client: TestClient) -> None:
    assert client.post("/reload").status_code == 200
    assert client.post("/scoring/nothing", json={}).status_code == 404
    assert client.get("/info/").status_code == 200


def test_a_server_leaves_what_the_ledger_was_told_unless_it_is_given_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = app_instance().context.ledger
    assert ledger.campaign_settings() == (1.0, 10)
    ledger.set_campaign(audit_percent=7, stop_after=3)
    # As if the server before had ended.
    monkeypatch.setattr(Atlas8kApp, "_first", lambda self: True)

    def started_anew(**conf: str) -> tuple[float, int]:
        monkeypatch.setattr(
            settings, "MONAI_LABEL_APP_CONF", {**settings.MONAI_LABEL_APP_CONF, **conf}
        )
        clear_cache()
        with TestClient(client.app, base_url="http://127.0.0.1"):
            told: tuple[float, int] = app_instance().context.ledger.campaign_settings()
        return told

    assert started_anew() == (7.0, 3)
    assert started_anew(stop_after="5") == (7.0, 5)


def test_a_ct_of_two_geometries_is_named_and_goes_out_with_one(
    client: TestClient, studies: Path, tmp_path: Path
) -> None:
    image = nib.load(studies / "a.nii.gz")
    true, sheared = image.affine.copy(), image.affine.copy()
    sheared[1, 2] += 4
    voxels = np.asarray(image.dataobj)
    for name, sform in (("two", true), ("tilt", sheared)):
        made = nib.Nifti1Image(voxels, sform)
        made.set_sform(sform, 2)
        made.set_qform(true, 1)
        if name == "two":
            other = true.copy()
            other[0, 3] += 36
            made.set_qform(other, 1)
        nib.save(made, studies / f"{name}.nii.gz")
    (studies / "gone.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    datastore = app_instance().datastore()
    datastore.refresh()
    for name in datastore.list_images():  # the watcher may be at it: it is not waited for
        datastore.studies.remarks(name)
    said = client.get("/info/").json()["atlas8k"]["remarks"]
    assert {name: found[0]["kind"] for name, found in said["volumes"].items()} == {
        "two": "two_geometries",
        "tilt": "sheared",
    }
    assert "gone.nii.gz" in said["not_listed"]
    assert client.get("/atlas8k/remarks").json() == said
    page = client.get("/atlas8k/cases").text
    for words in ("two geometries in one file", "sheared by", "elsewhere.nii.gz"):
        assert words in page
    for name in ("two", "tilt"):
        info = client.get(f"/datastore/image/info?image={name}").json()
        content = client.get(f"/datastore/image?image={name}").content
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(content)
        assert info["checksum"] == f"SHA256:{hashlib.sha256(content).hexdigest()}"
        assert (
            client.head(f"/datastore/image?image={name}&check_sum={info['checksum']}").status_code
            == 200
        )
        served = nib.load(path)
        np.testing.assert_allclose(served.get_qform(), served.get_sform(), atol=1e-4)
        np.testing.assert_array_equal(np.asarray(served.dataobj), voxels)
        # What comes back on it, and what the server makes, lie where the client sees the CT.
        array = np.zeros(voxels.shape, np.uint8)
        array[3:9, 4:12, 5:9] = 5
        label = tmp_path / "label.nii.gz"
        nib.save(nib.Nifti1Image(array, served.affine), label)
        files = {"label": ("label.nii.gz", label.read_bytes())}
        answer = client.put(f"/datastore/label?image={name}", files=files)
        assert answer.status_code == 200, answer.text
        assert answer.json()["notes"] == []
        for url in (
            f"/datastore/label?label={name}&tag=final",
            f"/infer/ensemble?image={name}&output=image",
        ):
            method = client.post if "infer" in url else client.get
            label.write_bytes(method(url).content)
            np.testing.assert_allclose(nib.load(label).affine, served.affine, atol=1e-3)
            np.testing.assert_allclose(nib.load(label).get_qform(), served.affine, atol=1e-3)
            if "final" in url:
                np.testing.assert_array_equal(np.asarray(nib.load(label).dataobj), array)
    # On disk it lies where the voxels truly are.
    own = nib.load(studies / "labels" / "final" / "tilt.nii.gz")
    np.testing.assert_allclose(own.get_sform(), sheared, atol=1e-3)


def test_a_ct_is_said_to_be_not_usable_and_counts_again(client: TestClient) -> None:
    sync(client, "/scoring/attention")
    why = {"reason": "motion", "client_id": "anna"}
    assert client.post("/atlas8k/volumes/a/exclude", json={"reason": ""}).status_code == 422
    assert client.post("/atlas8k/volumes/nope/exclude", json=why).status_code == 404
    other = {"origin": "http://elsewhere"}
    assert client.post("/atlas8k/volumes/a/exclude", json=why, headers=other).status_code == 403
    answer = client.post("/atlas8k/volumes/a/exclude", json=why)
    assert answer.json() == {"image": "a", "usable": False, "reason": "motion"}
    (left,) = client.get("/atlas8k/volumes/not-usable").json()
    assert (left["volume"], left["reason"], left["holder"]) == ("a", "motion", "")
    campaign = client.get("/atlas8k/campaign").json()
    assert campaign["volumes"]["total"] == 2
    assert [one["volume"] for one in campaign["not_usable"]] == ["a"]
    page = client.get("/atlas8k/cases").text
    assert "Count it again" in page
    assert "motion" in page
    assert client.post("/atlas8k/volumes/a/include", json={}).json()["changed"] is True
    assert client.get("/atlas8k/volumes/not-usable").json() == []
    assert client.get("/atlas8k/campaign").json()["volumes"]["total"] == 3


def test_the_page_leaves_a_case_out_and_counts_it_again(client: TestClient) -> None:
    sync(client, "/scoring/attention")
    client.cookies.set("atlas8k_name", "anna")
    image = client.post("/activelearning/attention", json={"client_id": "anna"}).json()["id"]
    form = {"do": "exclude", "image": image, "reason": "metal <b>"}
    answer = client.post("/atlas8k/cases", data=form)
    assert answer.status_code == 200, answer.text
    assert f"{image} is not usable: metal &lt;b&gt;" in answer.text
    assert client.post("/atlas8k/cases", data={**form, "reason": " "}).status_code == 422
    answer = client.post("/atlas8k/cases", data={"do": "include", "image": image})
    assert f"{image} counts again" in answer.text
    assert client.get("/atlas8k/volumes/not-usable").json() == []


def test_what_an_earlier_release_let_clients_note_changes_no_sample(client: TestClient) -> None:
    stored = {"id": "b", "lease": 7, "audit": True, "strategy": 5, "comment": "a stent"}
    app_instance().datastore().update_image_info("a", stored)
    found = client.post("/activelearning/first", json={"client_id": "anna"}).json()
    assert found["id"] == "a"
    assert found["lease"] != 7
    assert found["comment"] == "a stent"
    assert found["name"] == "a.nii.gz"
    assert found["audit"] is not True
    assert found["strategy"]["first"]["client_id"] == "anna"
