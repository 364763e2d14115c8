"""3D Slicer's own module against the real server: no organ voxel is lost on the way."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests
import SimpleITK as sitk
from tests.e2e.harness import APP, Server, running
from tests.e2e.slicer import Slicer, image_of, opened
from tests.e2e.small import LIMIT_S
from tests.server.tiny import NETWORKS, checkpoint, write_ct

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label
from atlas8k.models.checkpoint import Checkpoint, save_checkpoint

pytestmark = pytest.mark.slow
Labels = npt.NDArray[np.uint8]
IMAGES = tuple(f"case_{number:02d}" for number in range(21))
# Settings under which networks that have learnt nothing give regions.
SENSITIVE = (
    *("--conf", "inconsistency_threshold", "0.01"),
    *("--conf", "uncertainty_threshold", "0.3"),
    *("--conf", "opening_mm", "0"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("slicer")
    app, studies = folder / "app", folder / "studies"
    app.mkdir()
    studies.mkdir()
    shutil.copy(APP / "main.py", app)
    for name in NETWORKS:
        save_checkpoint(app / "model" / "embedded" / f"{name}.safetensors", outspoken(name))
    for seed, image in enumerate(IMAGES):
        write_ct(studies / f"{image}.nii.gz", seed)
    with running(app, studies, folder, *SENSITIVE) as started:
        assert started.score()["status"] == "DONE"
        yield started


def outspoken(name: str) -> Checkpoint:
    """A tiny network that is sure of what it does not know: every organ is somewhere."""
    made = checkpoint(name)
    last = [key for key, value in made.state.items() if value.ndim == 5][-1]
    return dataclasses.replace(made, state={**made.state, last: 40 * made.state[last]})


@pytest.fixture
def slicer(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Slicer]:
    with opened(server.url, tmp_path / "slicer", f"user of {request.node.name}") as one:
        yield one
        assert not one.errors, one.errors[0]


def stored(server: Server, image: str, tag: str, folder: Path) -> Labels:
    answer = requests.get(f"{server.url}/datastore/label?label={image}&tag={tag}", timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text[:300]
    path = folder / "stored.nii.gz"
    path.write_bytes(answer.content)
    return read_label(path).array


def get(server: Server, path: str) -> Any:
    answer = requests.get(server.url + path, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text[:300]
    return answer.json()


def shown(slicer: Slicer) -> Labels:
    """The organs of the scene as one map; they must not overlap."""
    array = np.zeros(slicer.segmentation.shape, np.uint8)
    for organ, number in ORGAN_IDS.items():
        mask = slicer.mask(organ)
        assert not (array[mask] != 0).any(), organ
        array[mask] = number
    return array


def names(slicer: Slicer) -> list[str]:
    return [one.name for one in slicer.segmentation.segments]


def open_case(slicer: Slicer) -> str:
    """The next case, with something of every organ drawn: a case for which order matters."""
    image = slicer.next_sample()
    assert image in IMAGES
    for number, organ in enumerate(ORGAN_NAMES):
        box = (slice(2 * number, 2 * number + 2), slice(3, 9 + number), slice(2, 9))
        draw(slicer, organ, box)
    return image


def draw(slicer: Slicer, organ: str, box: tuple[slice, slice, slice]) -> None:
    """Paint over what is there, as Slicer's editor does by default."""
    for one in slicer.segmentation.segments:
        one.mask[box] = False
    slicer.mask(organ)[box] = True


def assert_kept(server: Server, slicer: Slicer, image: str, expected: Labels) -> None:
    """Submitted, assembled and in the history, exactly so."""
    reply = slicer.save()
    assert not slicer.errors, slicer.errors[0]
    assert (reply["image"], reply["in_force"], reply["conflict"]) == (image, True, False)
    for tag in ("final", "original"):
        assert np.array_equal(stored(server, image, tag, slicer.folder), expected), tag
    history = get(server, f"/atlas8k/labels/{image}/history")
    last = history["history"][-1]
    assert (last["id"], last["in_force"]) == (reply["submission"], True)
    for organ, number in ORGAN_IDS.items():
        voxels = int((expected == number).sum())
        assert last["organs"][organ]["voxels_after"] == voxels, organ
        if last["organs"][organ]["voxels_changed"] and voxels:
            assert history["organs"][organ]["source"] == "revised", organ


def test_next_sample_ensemble_edit_attention_submit(server: Server, slicer: Slicer) -> None:
    image = slicer.next_sample("attention")
    start = stored(server, image, "original", slicer.folder)
    assert len(np.unique(start)) > 2  # the networks, though they know nothing, found something
    # The draft label is in the scene: every organ as a segment, in the order of the ids.
    assert names(slicer) == list(ORGAN_NAMES)
    assert np.array_equal(shown(slicer), start)

    slicer.run("ensemble")
    assert names(slicer) == list(ORGAN_NAMES)  # replaced, not added
    assert np.array_equal(shown(slicer), start)

    draw(slicer, "liver", (slice(4, 9), slice(4, 9), slice(4, 9)))
    draw(slicer, "aorta", (slice(12, 14), slice(9, 11), slice(2, 14)))
    # Two that the module leaves out when it saves, ahead of the organs, with voxels.
    everything = np.ones(slicer.segmentation.shape, bool)
    slicer.segmentation.add("background", everything, at=0)
    slicer.segmentation.add("foreground_scribbles", everything, at=3)
    before = {one.name: one.mask.copy() for one in slicer.segmentation.segments}
    edited = shown(slicer)

    slicer.run("attention")
    assert names(slicer) == list(before)
    for one in slicer.segmentation.segments:
        assert np.array_equal(one.mask, before[one.name]), one.name
    boxes = [one for one in slicer.markups.markups if one.fields["type"] == "ROI"]
    assert boxes
    assert {one.fields["name"].split()[1] for one in boxes} <= set(ORGAN_NAMES)

    assert_kept(server, slicer, image, edited)
    info = get(server, f"/datastore/label/info?label={image}&tag=final")
    assert info["read_by"] == "label_info"
    # What the module counted on over the segments that it left out is not what was written.
    places = [entry["idx"] for entry in info["label_info"]]
    assert places == [2, 3, *range(5, 12)]
    assert slicer.widget.info["datastore"]["completed"] == 1
    assert slicer.next_sample("attention") != image


def test_the_ensemble_runs_by_itself_where_that_is_set(server: Server, slicer: Slicer) -> None:
    slicer.settings["MONAILabel/autoRunSegmentationOnNextSample"] = True
    slicer.settings["MONAILabel/originalLabel"] = False
    image = slicer.next_sample()
    assert slicer.widget.ui.segmentationModelSelector.currentText == "ensemble"
    start = stored(server, image, "original", slicer.folder)
    assert np.array_equal(shown(slicer), start)
    # Nothing edited: every segment comes back as it went out, and nobody has said a word.
    reply = slicer.save()
    assert set(reply["organs"].values()) == {"not_assessed"}
    assert "all_looked_at" in reply["to_assess"]
    assert get(server, f"/atlas8k/labels/{image}/history")["organs"] == {}


def test_one_organ_corrected_leaves_the_others_not_assessed(server: Server, slicer: Slicer) -> None:
    image = slicer.next_sample()
    start = stored(server, image, "original", slicer.folder)
    draw(slicer, "kidney_left", (slice(0, 4), slice(0, 4), slice(0, 4)))
    changed = {
        organ for organ, number in ORGAN_IDS.items() if (start[:4, :4, :4] == number).any()
    } | {"kidney_left"}
    reply = slicer.save()
    for organ, state in reply["organs"].items():
        assert (state != "not_assessed") == (organ in changed), organ
    assert f"not assessed: {'' if 'aorta' in changed else 'aorta'}" in reply["recorded"]
    sources = get(server, f"/atlas8k/labels/{image}/history")["organs"]
    assert set(sources) == changed


def test_the_modules_option_says_that_all_was_looked_at(server: Server, slicer: Slicer) -> None:
    """*Options* of the module lists what the app gives; it goes with the next sample."""
    option = slicer.widget.info["strategies"]["first"]["config"]
    assert option == {"all_looked_at": False}
    option["all_looked_at"] = True  # what its tick does
    image = slicer.next_sample()
    assert slicer.widget.current_sample["looked_at"] == "all"
    start = stored(server, image, "original", slicer.folder)
    reply = slicer.save()
    asked = reply.get("asked", {})
    for organ, number in ORGAN_IDS.items():
        right = (start == number).any() and organ not in asked
        assert reply["organs"][organ] == ("confirmed" if right else "not_assessed"), organ
    assert "confirmed" in reply["organs"].values()
    # The module asks for its options anew after a save: the next case is another matter.
    assert slicer.widget.info["strategies"]["first"]["config"] == {"all_looked_at": False}
    slicer.next_sample()
    assert slicer.widget.current_sample["looked_at"] is None


def test_a_single_network_replaces_the_organs_by_name(server: Server, slicer: Slicer) -> None:
    slicer.next_sample()
    slicer.run("unet")
    assert names(slicer) == list(ORGAN_NAMES)
    shown(slicer)


def in_another_order(slicer: Slicer) -> None:
    order = np.random.default_rng(1).permutation(len(slicer.segmentation.segments))
    segments = slicer.segmentation.segments
    segments[:] = [segments[i] for i in order]


def background_first(slicer: Slicer) -> None:
    slicer.segmentation.add("background", np.ones(slicer.segmentation.shape, bool), at=0)


def cropped(slicer: Slicer) -> None:
    slicer.crop = True


def as_nrrd(slicer: Slicer) -> None:
    slicer.settings["MONAILabel/fileExtension"] = ".nrrd"


def flipped(slicer: Slicer) -> None:
    slicer.flip = (True, False, True)


def as_seg_nrrd(slicer: Slicer) -> None:
    slicer.settings["MONAILabel/fileExtension"] = ".seg.nrrd"
    slicer.settings["MONAILabel/allowOverlappingSegments"] = True


@pytest.mark.parametrize(
    "ways",
    [
        (in_another_order,),
        (in_another_order, background_first, cropped, as_nrrd),
        (flipped, cropped),
        (in_another_order, background_first, as_seg_nrrd, cropped),
    ],
    ids=lambda ways: " ".join(way.__name__ for way in ways),
)
def test_however_it_is_saved(server: Server, slicer: Slicer, ways: tuple[Any, ...]) -> None:
    image = open_case(slicer)
    expected = shown(slicer)
    for way in ways:
        way(slicer)
    assert_kept(server, slicer, image, expected)


def test_overlapping_segments_lose_no_voxel(server: Server, slicer: Slicer) -> None:
    """The smaller of two organs keeps what they share; together they cover what they did."""
    image = open_case(slicer)
    slicer.mask("liver")[8:16, 2:12, 1:12] = True  # over organs that lie there, which stay
    masks = {organ: slicer.mask(organ) for organ in ORGAN_NAMES}
    expected = np.zeros(slicer.segmentation.shape, np.uint8)
    for organ in sorted(masks, key=lambda organ: -masks[organ].sum()):
        expected[masks[organ]] = ORGAN_IDS[organ]
    assert sum(mask.sum() for mask in masks.values()) > (expected > 0).sum() + 100
    as_seg_nrrd(slicer)
    assert_kept(server, slicer, image, expected)
    info = get(server, f"/datastore/label/info?label={image}&tag=final")
    assert info["read_by"] == "segment names"


def test_a_tumour_is_part_of_its_organ(server: Server, slicer: Slicer) -> None:
    image = open_case(slicer)
    expected = shown(slicer)
    # Drawn over the organ: in the merged map the organ has a hole where the tumour is.
    tumour = np.zeros(expected.shape, bool)
    at = np.argwhere(expected == ORGAN_IDS["kidney_left"])[:5]
    tumour[tuple(at.T)] = True
    slicer.mask("kidney_left")[tumour] = False
    slicer.segmentation.add("kidney_left_tumor", tumour)
    assert_kept(server, slicer, image, expected)


def test_attention_as_segments_is_refused_until_they_are_gone(
    server: Server, slicer: Slicer
) -> None:
    image = open_case(slicer)
    expected = shown(slicer)
    assert_kept(server, slicer, image, expected)
    # The module's options let an annotator have the map in place of the boxes.
    slicer.widget.info["models"]["attention"]["config"]["form"] = ["label", "boxes"]
    slicer.run("attention")
    assert np.array_equal(shown(slicer), expected)  # organs are as they were, below it
    regions = [name for name in names(slicer) if name.startswith("attention_")]
    assert len(regions) == len(ORGAN_NAMES)
    drawn = [name for name in regions if slicer.mask(name).any()]
    assert drawn

    assert slicer.save() == {}
    (error,) = slicer.errors
    assert "Status: 422" in error
    assert "segmentation of its own" in error
    assert all(name in error for name in drawn)
    assert np.array_equal(stored(server, image, "final", slicer.folder), expected)
    slicer.errors.clear()

    slicer.remove(*drawn)  # empty ones of that name do no harm
    draw(slicer, "spleen", (slice(0, 3), slice(0, 3), slice(0, 3)))
    assert_kept(server, slicer, image, shown(slicer))


def test_an_organ_erased_is_absent_and_one_never_found_is_not(
    server: Server, slicer: Slicer
) -> None:
    image = slicer.next_sample()
    start = stored(server, image, "original", slicer.folder)
    found = [organ for organ, number in ORGAN_IDS.items() if (start == number).any()]
    never = [organ for organ in ORGAN_NAMES if organ not in found]
    slicer.mask(found[0])[...] = False
    # One that the annotator has deleted from the list: nothing is said about it.
    slicer.remove(found[1])
    organs = slicer.save()["organs"]
    assert organs[found[0]] == "absent"
    assert organs[found[1]] == "not_assessed"
    assert {organs[organ] for organ in never} <= {"not_assessed"}
    expected = np.where(start == ORGAN_IDS[found[0]], 0, start)
    for tag in ("final", "original"):
        assert np.array_equal(stored(server, image, tag, slicer.folder), expected), tag


def test_a_case_opened_again_shows_its_last_revision(server: Server, slicer: Slicer) -> None:
    image = open_case(slicer)
    assert_kept(server, slicer, image, shown(slicer))
    draw(slicer, "stomach", (slice(15, 19), slice(10, 15), slice(3, 9)))
    second = shown(slicer)
    assert_kept(server, slicer, image, second)
    slicer.next_sample()
    answer = requests.post(
        f"{server.url}/atlas8k/labels/{image}/reopen", json={"note": "once more"}, timeout=LIMIT_S
    )
    assert answer.status_code == 200, answer.text
    assert slicer.next_sample() == image
    assert slicer.widget.current_sample["note"] == "once more"
    assert np.array_equal(shown(slicer), second)


def test_the_ct_in_the_cache_is_not_taken_for_another(server: Server, slicer: Slicer) -> None:
    """Slicer keeps downloads by name; only the checksum tells it that one is another's."""
    cache = slicer.folder / "cache"
    cache.mkdir()
    for image in IMAGES:
        (cache / f"{image}.nii.gz").write_bytes(b"another study's")
    image = slicer.next_sample()
    path = server.studies / f"{image}.nii.gz"
    assert (cache / f"{image}.nii.gz").read_bytes() == path.read_bytes()


def test_a_ct_on_a_shared_disk_is_opened_in_place(server: Server, slicer: Slicer) -> None:
    slicer.remote = False
    image = open_case(slicer)
    assert not (slicer.folder / "cache").exists()
    assert_kept(server, slicer, image, shown(slicer))


def test_a_client_that_sends_its_background_along(server: Server, slicer: Slicer) -> None:
    """Not the module: it leaves the background out. A value is a place in the list all the same."""
    image = open_case(slicer)
    expected = shown(slicer)
    info = [{"name": name, "idx": n} for n, name in enumerate(("background", *ORGAN_NAMES))]
    path = slicer.folder / "whole.nii.gz"
    ct = slicer.widget._volumeNode.image
    sitk.WriteImage(image_of((expected + 1).astype(np.uint8), ct), str(path))
    reply = slicer.widget.logic.save_label(image, str(path), {"label_info": info})
    assert set(reply["organs"].values()) == {"revised"}
    assert np.array_equal(stored(server, image, "final", slicer.folder), expected)


def test_training_is_started_watched_and_stopped(server: Server, slicer: Slicer) -> None:
    assert slicer.widget.ui.trainerBox.currentText == "atlas8k"
    slicer.widget.onTraining()
    assert slicer.widget.isTrainingRunning()
    slicer.widget.monitorTraining()
    slicer.widget.onStopTraining()
    assert server.finish("train", 60)["status"] in {"STOPPED", "ERROR", "DONE"}
    assert not slicer.widget.isTrainingRunning()

    # Slicer can also begin one with every save, and end the one before.
    slicer.settings["MONAILabel/autoUpdateModelV2"] = True
    image = open_case(slicer)
    for box in (slice(0, 2), slice(2, 4)):
        draw(slicer, "pancreas", (box, box, box))
        assert_kept(server, slicer, image, shown(slicer))
        assert slicer.widget.isTrainingRunning()
    slicer.widget.onStopTraining()
    server.finish("train", 60)
