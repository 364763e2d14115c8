"""Bad input: one clear message, the server keeps running and loses nothing."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import requests
from tests.e2e.harness import Server, command, environment, free_port
from tests.e2e.phantoms import write_phantoms

from atlas8k.core.settings import Settings
from atlas8k.core.volume import read_label, write_nifti

pytestmark = pytest.mark.slow


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and what was printed by a start that must not succeed."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def test_an_unknown_setting_ends_the_start_with_one_line(app: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    write_phantoms(studies, tmp_path / "truth", 1)
    code, text = run([*command(app, studies, free_port(), "--conf", "budgett", "0.1")], tmp_path)
    last = text.splitlines()[-1]
    assert code != 0
    assert "--conf budgett" in last
    assert all(key in last for key in Settings.model_fields)
    assert "Traceback" not in text


def test_a_missing_studies_folder_ends_the_start_with_one_line(app: Path, tmp_path: Path) -> None:
    code, text = run(command(app, tmp_path / "typo", free_port()), tmp_path)
    last = text.splitlines()[-1]
    assert code != 0
    assert str(tmp_path / "typo") in last
    assert "no such folder" in last
    assert "Traceback" not in text
    assert not (tmp_path / "typo").exists()


BROKEN: dict[str, str] = {
    "broken_empty": "0 bytes",
    "broken_garbage": "not a readable NIfTI",
    "broken_cut": "damaged",
    "broken_2d": "not one 3D volume",
    "broken_4d": "not one 3D volume",
    "broken_nan": "NaN",
    "broken_constant": "no CT",
}


def write_broken(folder: Path) -> None:
    """One file of every kind of :data:`BROKEN`."""

    def save(name: str, array: np.ndarray) -> Path:
        path = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        return path

    rng = np.random.default_rng(0)
    good = rng.normal(0, 100, (20, 20, 20)).astype(np.float32)
    (folder / "broken_empty.nii.gz").write_bytes(b"")
    (folder / "broken_garbage.nii.gz").write_bytes(b"this is no image")
    whole = gzip.decompress(save("broken_cut", good).read_bytes())
    (folder / "broken_cut.nii.gz").write_bytes(gzip.compress(whole)[:4000])
    save("broken_2d", good[:, :, 0])
    save("broken_4d", np.stack([good, good], axis=-1))
    save("broken_nan", np.where(good > 0, np.nan, good))
    save("broken_constant", np.full_like(good, -1000))


def test_broken_files_among_good_ones(start: Callable[..., Server], tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    good = write_phantoms(studies, tmp_path / "truth", 2)
    write_broken(studies)
    server = start(studies)
    client = server.client()

    task = server.score()
    assert task["status"] == "DONE", task["details"]
    state = client.info()["atlas8k"]
    assert (state["scored"], state["failed"], state["total"]) == (2, len(BROKEN), 2 + len(BROKEN))
    for name, words in BROKEN.items():
        assert words in state["failures"][name]
        assert f"{name}.nii.gz" in state["failures"][name]
        answer = requests.post(f"{server.url}/infer/ensemble?image={name}", timeout=60)
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["detail"]

    # Good ones are served, broken ones never.
    samples = [client.next_sample("attention", {})["id"] for _ in range(2)]
    assert sorted(samples) == sorted(good)
    refused_requests(server, good[0])
    refused_labels(server, good[0], tmp_path)


def refused_requests(server: Server, image: str) -> None:
    """What is not there is 404 with what there is; what is no JSON is 422."""
    for method, path, code, word in [
        ("POST", f"/infer/nothing?image={image}", 404, "ensemble"),
        ("POST", "/infer/ensemble?image=nothing", 404, "nothing"),
        ("POST", "/infer/ensemble?image=/etc/passwd", 404, "passwd"),
        ("POST", "/infer/ensemble?image=../x", 404, "../x"),
        ("POST", "/activelearning/nothing", 404, "attention"),
        ("POST", "/scoring/nothing", 404, "attention"),
        ("POST", "/train/nothing", 404, "atlas8k"),
        ("GET", "/datastore/image?image=nothing", 404, ""),
        ("GET", "/datastore/image/info?image=nothing", 404, "nothing"),
        ("GET", f"/datastore/label?label={image}&tag=nothing", 404, ""),
    ]:
        answer = requests.request(method, server.url + path, json={}, timeout=60)
        assert answer.status_code == code, f"{path}: {answer.status_code} {answer.text}"
        assert word in answer.json()["detail"]
    for params, code in [
        ("{", 422),
        ("[]", 422),
        ('{"image": "/etc/passwd"}', 404),
        ('{"save_label": true, "label_tag": "final"}', 422),
    ]:
        answer = requests.post(
            f"{server.url}/infer/unet?image={image}", data={"params": params}, timeout=60
        )
        assert answer.status_code == code, f"{params}: {answer.status_code} {answer.text}"
    answer = requests.post(f"{server.url}/train/atlas8k?run_sync=true", json={}, timeout=60)
    assert (answer.status_code, answer.json()["error"]) == (409, "TrainingError")


def refused_labels(server: Server, image: str, folder: Path) -> None:
    """A good label stays what it is, whatever is sent after it."""
    client = server.client()
    original = read_label(client.download_label(image, "original"))
    array = original.array.copy()
    array[10:20, 10:20, 10:20] = 5
    client.save_label(image, str(write_nifti(folder / "good.nii.gz", array, original.grid)))

    def sent(name: str, content: bytes) -> tuple[str, bytes]:
        return f"{name}.nii.gz", content

    zero = write_nifti(folder / "zero.nii.gz", array * 0, original.grid).read_bytes()
    wild = write_nifti(folder / "wild.nii.gz", array * 40, original.grid).read_bytes()
    small = folder / "small.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), small)
    for where, file, code in [
        (f"image={image}", sent("a", b""), 422),
        (f"image={image}", sent("a", b"garbage"), 422),
        (f"image={image}", sent("a", zero), 422),
        (f"image={image}", sent("a", wild), 422),
        (f"image={image}", sent("a", small.read_bytes()), 422),
        (f"image={image}", ("a.txt", zero), 422),
        (f"image={image}&tag=../../evil", sent("a", zero), 422),
        ("image=../x", sent("a", zero), 422),
        ("image=nothing", sent("a", zero), 404),
    ]:
        answer = requests.put(
            f"{server.url}/datastore/label?{where}", files={"label": file}, timeout=60
        )
        assert answer.status_code == code, f"{where} {file[0]}: {answer.status_code} {answer.text}"
        assert answer.json()["detail"]
    kept = read_label(client.download_label(image, "final"))
    assert np.array_equal(kept.array, array)
    assert not list(server.studies.parent.rglob("evil*"))


def test_a_checkpoint_of_another_architecture(
    start: Callable[..., Server], tmp_path: Path, app: Path
) -> None:
    studies = tmp_path / "studies"
    name = write_phantoms(studies, tmp_path / "truth", 1)[0]
    embedded = app / "model" / "embedded"
    shutil.copy(embedded / "unet.safetensors", tmp_path / "kept")
    swap(embedded / "unet.safetensors", embedded / "swin_unetr.safetensors")
    server = start(studies)

    task = server.score()
    assert task["status"] == "ERROR"
    reason = task["details"][-1]
    assert str(embedded / "unet.safetensors") in reason
    # The others answer still, and say who is missing.
    file, params = server.client().infer("ensemble", name, {})
    assert file is not None
    assert str(embedded / "unet.safetensors") in params["left_out"]["unet"]
    answer = requests.post(f"{server.url}/infer/unet?image={name}", timeout=60)
    assert answer.status_code == 500
    assert "unet.safetensors" in answer.json()["detail"]

    # Repaired, it is taken up without a restart.
    shutil.copy(tmp_path / "kept", embedded / "unet.safetensors")
    assert server.score()["status"] == "DONE"
    assert server.client().info()["atlas8k"]["scored"] == 1


def swap(target: Path, source: Path) -> None:
    """Give `target` the weights of `source` under its own description."""
    import json

    import safetensors
    import safetensors.torch

    with safetensors.safe_open(target, framework="pt") as stream:
        metadata = stream.metadata()
    json.loads(metadata["atlas8k"])
    safetensors.torch.save_file(safetensors.torch.load_file(source), target, metadata=metadata)
