"""The page of one's own cases and the routes behind it, on the real server over files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import IMAGES, LIMIT_S, label_bytes, small_server
from tests.server.tiny import GRID, write_ct

from atlas8k.core.volume import write_nifti

pytestmark = pytest.mark.slow
MORE = ("d", "e", "f", "g", "h")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cases")
    with small_server(folder, images=(*IMAGES, *MORE)) as started:
        assert started.score()["status"] == "DONE"
        yield started


class Person:
    """Somebody's browser: cookies, no script."""

    def __init__(self, server: Server, name: str = "") -> None:
        self.session, self.url = requests.Session(), f"{server.url}/atlas8k/cases"
        self.server = server
        if name:
            self.post(do="name", name=name)

    def page(self) -> str:
        answer = self.session.get(self.url, timeout=LIMIT_S)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(
        self, label: tuple[str, bytes] | None = None, headers: Any = None, **fields: Any
    ) -> requests.Response:
        parts: list[Any] = [
            (key, (None, str(one)))
            for key, value in fields.items()
            for one in (value if isinstance(value, list) else [value])
        ]
        if label:
            parts.append(("label", label))
        return self.session.post(self.url, files=parts, headers=headers, timeout=LIMIT_S)

    def check(self, image: str, label: tuple[str, bytes], **fields: Any) -> str:
        """Have a label checked; the page that says what would be recorded."""
        answer = self.post(label, do="check", image=image, **fields)
        assert answer.status_code == 200, answer.text
        return answer.text

    def submit(self, image: str, label: tuple[str, bytes], **said: Any) -> requests.Response:
        """Have a label checked, then submit it with what is said of its organs."""
        found = re.search(r'name="token" value="([0-9a-f]{32})"', self.check(image, label))
        assert found
        return self.post(do="submit", image=image, token=found[1], **said)

    def next(self) -> str:
        """The next sample, asked for as OHIF does: without saying who asks."""
        where = f"{self.server.url}/activelearning/attention"
        answer = self.session.post(where, json={}, timeout=LIMIT_S)
        return str(answer.json()["id"])

    def take(self, image: str) -> requests.Response:
        return self.post(do="take", image=image)

    def message(self, answer: requests.Response) -> str:
        assert answer.status_code == 200, answer.text
        return said(answer.text)


def said(page: str) -> str:
    found = re.search(r'<p class="said[^>]*>(.*?)</p>', page, re.S)
    return found[1] if found else ""


def history(server: Server, image: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{server.url}/atlas8k/labels/{image}/history", timeout=LIMIT_S)
    found: list[dict[str, Any]] = answer.json()["history"]
    return found


def final(server: Server, image: str, folder: Path) -> Any:
    path = folder / "final.nii.gz"
    where = f"{server.url}/datastore/label?label={image}&tag=final"
    path.write_bytes(requests.get(where, timeout=LIMIT_S).content)
    return np.asarray(nib.load(path).dataobj)


def start(person: Person, image: str, folder: Path) -> Any:
    path = folder / "start.nii.gz"
    where = f"{person.url}/start?image={image}"
    path.write_bytes(person.session.get(where, timeout=LIMIT_S).content)
    return np.asarray(nib.load(path).dataobj)


def test_next_sample_of_ohif_is_listed_under_the_typed_name(server: Server) -> None:
    ann = Person(server, "Ann <script>alert(1)</script>")
    image = ann.next()
    page = ann.page()
    assert f">{image}</h3>" in page
    assert re.search(rf">{image}</h3>.*?rank 1 of 8", page, re.S)
    assert re.search(r"\d+ h \d\d min left|\d+ min left", page)
    assert "Look here first" in page
    assert re.search(r"<td>R -?[\d.]+, A -?[\d.]+, S -?[\d.]+ mm \(RAS\)</td>", page)
    assert "OHIF" not in page.partition("<body")[2]  # it opens no files of a folder
    assert re.search(r"slice \d+ along axis 2, from 0", page)
    assert "<script" not in page
    assert "Ann &lt;script&gt;" in page
    assert f">{image}</h3>" not in Person(server, "Bob").page()
    ann.post(do="release", image=image)


def test_a_browser_without_a_name_has_its_cases_and_keeps_them_with_one(server: Server) -> None:
    someone = Person(server)
    image = someone.next()
    assert f">{image}</h3>" in someone.page()
    someone.post(do="name", name="Late")
    assert f">{image}</h3>" in someone.page()
    assert "given back" in someone.message(someone.post(do="release", image=image))
    assert f">{image}</h3>" not in someone.page()


def test_confirm_reopen_and_put_back(server: Server, tmp_path: Path) -> None:
    person = Person(server, "Cleo")
    assert "in your hands" in person.message(person.take("d"))
    drawn = ("d.nii.gz", two_organs(tmp_path))
    checked = person.check("d", drawn)
    assert "not submitted yet" in checked
    assert re.search(r">liver</td><td>\s*changed\s*</td>", checked)
    assert history(server, "d") == []
    assert "changed: liver, spleen" in person.message(person.submit("d", drawn))
    assert "open again and in your hands" in person.message(person.post(do="reopen", image="d"))
    before = start(person, "d", tmp_path)
    assert sorted(np.unique(before)) == [0, 5, 8]
    assert re.search(r">liver</td>\s*<td class=.n.>388\.8</td>", person.page())  # 180 of 2.16 ml
    assert person.post(do="confirm", image="d").status_code == 422  # nothing is said
    right = {"organ-liver": "correct", "organ-spleen": "correct"}
    text = person.message(person.post(do="confirm", image="d", **right))
    assert text.startswith("Submitted d as submission")
    assert "correct: liver, spleen; not assessed: aorta, " in text
    assert "To undo" in text
    assert said(person.page()) == ""  # said once
    assert np.array_equal(final(server, "d", tmp_path), before)
    first, second = history(server, "d")
    assert second["in_force"]
    assert second["holder"] == "client:Cleo"
    person.post(do="reopen", image="d")
    assert ">d</h3>" in person.page()
    assert "Close again: d" in person.page()
    assert "closed again" in person.message(person.post(do="release", image="d"))
    assert ">d</h3>" not in person.page()
    other = person.next()
    assert other != "d"
    person.post(do="release", image=other)
    assert "Open again: d" in person.page()
    back = person.post(do="restore", image="d", submission=first["id"])
    assert "current again" in person.message(back)
    assert ">d</h3>" not in person.page()
    assert [one["in_force"] for one in history(server, "d")] == [False, False, True]
    assert requests.get(f"{server.url}/info/", timeout=LIMIT_S).status_code == 200


def two_organs(folder: Path) -> bytes:
    array = np.zeros(GRID.shape, np.uint8)
    array[8:14, 8:13, 6:12], array[2:4, 2:4, 2:4] = 5, 8
    return write_nifti(folder / "two.nii.gz", array, GRID).read_bytes()


def test_an_organ_that_is_not_there(server: Server, tmp_path: Path) -> None:
    person = Person(server, "Dora")
    person.take("e")
    person.submit("e", ("e.nii.gz", two_organs(tmp_path)))
    person.post(do="reopen", image="e")
    before = start(person, "e", tmp_path)
    said = {"organ-spleen": "absent", "organ-pancreas": "absent", "organ-liver": "correct"}
    gone = person.post(do="confirm", image="e", **said)
    assert "correct: liver; absent: pancreas, spleen; not assessed:" in person.message(gone)
    after = final(server, "e", tmp_path)
    assert np.array_equal(after, np.where(before == 8, 0, before))
    states = {organ: one["state"] for organ, one in history(server, "e")[1]["organs"].items()}
    assert (states["spleen"], states["pancreas"], states["liver"]) == (
        "absent",
        "absent",
        "confirmed",
    )


def test_upload_and_what_is_refused(server: Server, tmp_path: Path) -> None:
    person = Person(server, "Eve")
    person.take("f")
    for label, words in [
        (("l.nii.gz", b"nonsense"), "label of f"),
        (("l.exe", b"nonsense"), "label file"),
        (("l.dcm", b"\0" * 128 + b"DICM"), "label of f"),
    ]:
        answer = person.post(label, do="check", image="f")
        assert answer.status_code == 422, answer.text
        assert words in said(answer.text)
        assert 'role="alert"' in answer.text
        assert ">f</h3>" in answer.text  # it is still one's own
    assert person.post(do="check", image="f").status_code == 422
    good = ("l.nii.gz", label_bytes(tmp_path))
    for token in ("", "0" * 32, "*", "../" * 10):
        assert person.post(do="submit", image="f", token=token).status_code == 404
    assert person.post(good, do="submit", image="f").status_code == 404  # not checked yet
    assert history(server, "f") == []
    text = person.message(person.submit("f", good, **{"organ-spleen": "absent"}))
    assert text.startswith("Submitted f as submission")
    assert "spleen" in text
    assert (final(server, "f", tmp_path) == 5).sum() == 180


def test_an_implausible_volume_is_asked_about_on_the_page(server: Server, tmp_path: Path) -> None:
    person = Person(server, "Ida")
    person.take("c")
    array = np.zeros(GRID.shape, np.uint8)
    array[8:10, 8:10, 6:8] = 5  # 17 ml of liver
    tiny = ("c.nii.gz", write_nifti(tmp_path / "c.nii.gz", array, GRID).read_bytes())
    assert "17.3 ml, where 344.9 to 7,531.5 ml are plausible" in person.check("c", tiny)
    text = person.message(person.submit("c", tiny))
    assert "asked about: liver 17.3 ml" in text
    assert history(server, "c")[-1]["organs"]["liver"]["state"] == "not_assessed"
    person.post(do="reopen", image="c")
    # What was drawn is there, and the question with it.
    assert np.array_equal(start(person, "c", tmp_path) == 5, array == 5)
    page = person.page()
    assert "revised, not assessed" in page
    assert 'name="volume-liver"' in page
    said = {"organ-liver": "correct", "volume-liver": "right"}
    assert "correct: liver" in person.message(person.post(do="confirm", image="c", **said))
    assert history(server, "c")[-1]["organs"]["liver"]["state"] == "confirmed"


def test_every_form_begins_with_a_button_that_does_nothing(server: Server) -> None:
    """Enter in a field presses the first button of its form."""
    person = Person(server, "Jo")
    person.take("b")
    page = person.page()
    forms = re.findall(r"<form.*?</form>", page, re.S)
    bearing = [form for form in forms if re.search(r'value="(confirm|submit|check)"', form)]
    assert len(bearing) >= 2
    for form in bearing:
        first = re.search(r"<button[^>]*>", form)
        assert first
        assert first[0] == '<button formmethod="dialog" hidden>'
    lease = re.search(r'name="lease" value="(\d+)"', page)
    assert lease
    all_right = person.session.get(f"{person.url}?all_right={lease[1]}", timeout=LIMIT_S).text
    marked = re.findall(r'name="organ-(\w+)" value="correct" checked', all_right)
    drawn = start_organs(page)
    assert marked == drawn
    assert 'value="correct" checked' not in page
    person.post(do="release", image="b")


def start_organs(page: str) -> list[str]:
    """Organs of the form that may be marked correct and are not asked about."""
    found = re.findall(r'name="organ-(\w+)" value="correct"', page)
    return [organ for organ in found if f'name="volume-{organ}"' not in page]


def test_somebody_elses_case_cannot_be_touched(server: Server, tmp_path: Path) -> None:
    mine, other = Person(server, "Fay"), Person(server, "Gus")
    mine.take("g")
    label = ("l.nii.gz", label_bytes(tmp_path))
    found = re.search(r'name="token" value="([0-9a-f]{32})"', mine.check("g", label))
    assert found
    held = {"image": "g", "lease": 1}
    for answer in [
        other.take("g"),
        other.post(do="confirm", image="g"),
        other.post(do="confirm", **held),
        other.post(label, do="check", image="g"),
        other.post(do="submit", image="g", token=found[1]),
        other.post(do="release", image="g"),
        other.post(do="reopen", image="g"),
        other.post(do="restore", image="g", submission=1),
        other.session.get(f"{other.url}/start?image=g", timeout=LIMIT_S),
    ]:
        assert answer.status_code in {404, 409}, answer.text
    mine.post(do="confirm", image="g", **{"organ-liver": "correct"})
    number = history(server, "g")[0]["id"]
    for answer in [
        other.post(do="reopen", image="g"),
        other.post(do="restore", image="g", submission=number),
        other.take("g"),
        mine.post(do="confirm", image="g"),  # submitted already
        mine.take("g"),
    ]:
        assert answer.status_code == 409, answer.text
    assert len(history(server, "g")) == 1


def test_a_form_of_another_site_does_nothing(server: Server) -> None:
    person = Person(server, "Hal")
    person.take("h")
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        answer = person.post(headers={"Origin": origin}, do="confirm", image="h")
        assert answer.status_code == 403
        api = person.session.post(
            f"{person.url}/h/release", json={}, headers={"Origin": origin}, timeout=LIMIT_S
        )
        assert api.status_code == 403
    assert ">h</h3>" in person.page()
    here = person.post(headers={"Origin": server.url}, do="release", image="h")
    assert here.status_code == 200
    cookies = {one.name: one for one in person.session.cookies}
    assert cookies["atlas8k_name"].get_nonstandard_attr("SameSite") == "strict"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"do": "nothing"},
        {"do": "confirm"},
        {"do": "confirm", "image": "../../etc/passwd"},
        {"do": "confirm", "image": "no such"},
        {"do": "confirm", "image": "a", "lease": "x"},
        {"do": "confirm", "image": "a", "organ-liver": "perhaps"},
        {"do": "check", "image": "a", "partial": "some"},
        {"do": "confirm", "image": "a", "lease": 10**30},
        {"do": "restore", "image": "a", "submission": -1},
        {"do": "restore", "image": "a", "submission": 10**30},
        {"do": "take", "image": "x" * 5000},
        {"do": "release", "image": "\x00"},
    ],
)
def test_bad_forms_are_refused(server: Server, fields: dict[str, Any]) -> None:
    answer = Person(server).post(**fields)
    assert 400 <= answer.status_code < 500, answer.text


def test_the_page_is_plain_and_names_every_field(server: Server) -> None:
    person = Person(server)
    person.next()
    answer = person.session.get(person.url, timeout=LIMIT_S)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    seen = Seen()
    seen.feed(answer.text)
    assert not {"script", "link", "img", "iframe"} & set(seen.tags)
    assert seen.unlabelled == []
    assert "prefers-color-scheme: dark" in answer.text
    assert len(answer.text) < 40_000
    for image in [i for i in (*IMAGES, *MORE) if f">{i}</h3>" in answer.text]:
        person.post(do="release", image=image)


class Seen(HTMLParser):
    """Tags, and fields outside of a label."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.unlabelled: list[str] = []
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._depth += tag == "label"
        if tag == "input" and dict(attrs).get("type") != "hidden" and not self._depth:
            self.unlabelled.append(str(attrs))

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "label"


def test_the_same_by_script(server: Server, tmp_path: Path) -> None:
    url, me = f"{server.url}/atlas8k/cases", {"client_id": "script"}

    def post(what: str, **more: Any) -> requests.Response:
        return requests.post(f"{url}/a/{what}", json={**me, **more}, timeout=LIMIT_S)

    assert post("take").status_code == 200
    (case,) = requests.get(f"{url}/list", params=me, timeout=LIMIT_S).json()["open"]
    assert case["image"] == "a"
    assert case["regions"]
    assert post("confirm", lease=case["lease"] + 1).status_code == 409
    assert post("confirm", absent=["brain"]).status_code == 422
    assert post("confirm", looked_at="some").status_code == 422
    nothing = post("confirm")
    assert (nothing.status_code, "looked_at" in nothing.text) == (422, True)
    reply = post("confirm", lease=case["lease"], absent=["spleen"]).json()
    assert reply["organs"]["spleen"] == "absent"
    opened = post("reopen")
    assert opened.status_code == 200, opened.text
    with_file = requests.post(
        f"{url}/a/submit",
        files={"label": ("l.nii.gz", label_bytes(tmp_path))},
        data=me,
        timeout=LIMIT_S,
    )
    assert with_file.status_code == 200, with_file.text
    assert post("restore", submission=reply["submission"]).status_code == 200
    found = requests.get(f"{url}/list", params=me, timeout=LIMIT_S).json()
    assert found["open"] == []
    assert [one["in_force"] for one in found["submitted"]] == [True, False, False]
    other = requests.get(f"{url}/list", params={"client_id": "x"}, timeout=LIMIT_S).json()
    assert other == {"open": [], "returned": [], "submitted": []}


def test_a_ct_that_nobody_has_looked_for_yet_is_taken_by_name(
    server: Server, tmp_path: Path
) -> None:
    """It is not in the ledger, which learns of files every few seconds; this was a 500."""
    written = write_ct(server.studies / "just-copied.nii.gz", seed=9)
    for path, body in (
        ("cases/just-copied/take", {"client_id": "quick"}),
        ("labels/just-copied/history", None),
        ("cases/just-copied/release", {"client_id": "quick"}),
        ("volumes/just-copied/exclude", {"client_id": "quick", "reason": "a copy"}),
    ):
        method = "GET" if body is None else "POST"
        where = f"{server.url}/atlas8k/{path}"
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            answer = requests.request(method, where, json=body, timeout=LIMIT_S)
            if answer.status_code != 404:  # it may still be copied
                break
        assert answer.status_code == 200, f"{path}: {answer.text}"
    written.unlink()
