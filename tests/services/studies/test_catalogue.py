"""Everything derived equals what counting anew gives, after any sequence of changes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from atlas8k.services.studies.catalogue import Catalogue, Label
from atlas8k.services.studies.scan import ImageFile

IDS = st.sampled_from(["a", "b", 'c"\\', "d", "é"])
TAGS = st.sampled_from(["final", "original", "x"])
STEPS = st.one_of(
    st.tuples(st.just("image"), IDS, st.sampled_from([".nii.gz", ".nii"])),
    st.tuples(st.just("drop"), IDS),
    st.tuples(st.just("label"), IDS, TAGS, st.integers(0, 3)),
    st.tuples(st.just("unlabel"), IDS, TAGS),
    st.tuples(st.just("info"), IDS, st.integers(0, 3)),
)


@given(st.lists(STEPS, max_size=40), st.booleans())
def test_counts_lists_and_json_are_those_of_the_whole(
    steps: list[tuple[object, ...]], after_each: bool
) -> None:
    catalogue = Catalogue(since=7)
    catalogue.set_header({"name": "n"})
    images: dict[str, str] = {}
    labels: dict[tuple[str, str], int] = {}
    infos: dict[str, int] = {}
    for kind, *rest in steps:
        match [kind, *rest]:
            case ["image", str(i), str(ext)]:
                images[i] = ext
                catalogue.set_image(i, ImageFile(i + ext, ext))
            case ["drop", str(i)]:
                images.pop(i, None)
                catalogue.drop_image(i)
            case ["label", str(i), str(tag), int(n)]:
                labels[i, tag] = n
                catalogue.set_label(i, tag, Label(".nii.gz", json.dumps({"n": n})))
            case ["unlabel", str(i), str(tag)]:
                labels.pop((i, tag), None)
                catalogue.set_label(i, tag, None)
            case ["info", str(i), int(n)]:
                infos[i] = n
                catalogue.set_info(i, json.dumps({"n": n}))
        if after_each:
            check(catalogue, images, labels, infos)
    check(catalogue, images, labels, infos)


def check(
    catalogue: Catalogue,
    images: dict[str, str],
    labels: dict[tuple[str, str], int],
    infos: dict[str, int],
) -> None:
    tags: dict[str, int] = {}
    for image_id, tag in labels:
        if image_id in images:
            tags[tag] = tags.get(tag, 0) + 1
    assert catalogue.status() == {
        "total": len(images),
        "completed": tags.get("final", 0),
        "label_tags": tags,
    }
    assert catalogue.ids() == sorted(images)
    done = {i for i, tag in labels if tag == "final"}
    assert catalogue.ids_by_label("final", labeled=True) == sorted(done & set(images))
    assert catalogue.ids_by_label("final", labeled=False) == sorted(set(images) - done)
    expected = {
        i: {
            "image": {
                "ext": ext,
                "info": {**({"n": infos[i]} if i in infos else {"ts": 7}), "name": i + ext},
            },
            "labels": {
                tag: {"ext": ".nii.gz", "info": {"n": n, "name": f"{i}.nii.gz"}}
                for (j, tag), n in labels.items()
                if j == i
            },
        }
        for i, ext in images.items()
    }
    assert json.loads(catalogue.document()) == {"name": "n", "objects": expected}
    worked = {i: entry for i, entry in expected.items() if i in done or i in infos}
    left_out = len(images) - len(worked)
    assert json.loads(catalogue.document_of_worked()) == {
        "name": "n",
        "left_out": left_out,
        "objects": worked,
    }
    assert json.loads(catalogue.document_of(["a", "zzz"]))["objects"] == {
        i: entry for i, entry in expected.items() if i == "a"
    }


def test_the_number_of_changes_tells_whether_images_are_the_same() -> None:
    catalogue = Catalogue(since=7)
    catalogue.set_image("a", ImageFile("a.nii", ".nii"))
    before = catalogue.changes
    catalogue.set_label("a", "final", Label(".nii", "{}"))
    catalogue.set_info("a", "{}")
    catalogue.drop_image("nobody")
    assert catalogue.changes == before
    catalogue.set_image("a", ImageFile("a/ct.nii", ".nii"))
    assert catalogue.changes > before
    before = catalogue.changes
    catalogue.drop_image("a")
    assert catalogue.changes > before
