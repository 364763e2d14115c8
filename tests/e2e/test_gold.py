"""Gold cases on a real server: measured and shown to reviewers, and to annotators like any other.

The CTs are all the same, so that whatever differs between two of them in a reply tells them apart.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server

from atlas8k.core.volume import read_label

pytestmark = pytest.mark.slow

IMAGES = ("k1", "k2", "k3", "k4", "k5", "k6")
GOLD, PLAIN = IMAGES[:2]


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mixed")
    known = folder / "known"
    known.mkdir()
    (known / f"{GOLD}.nii.gz").write_bytes(label_bytes(folder, 5))
    (known / "of no CT here.nii.gz").write_bytes(label_bytes(folder, 5))
    more = ("--conf", "gold", str(known), "--conf", "gold_percent", "50")
    more += ("--conf", "find_duplicates", "false", "--conf", "budget", "1")
    with small_server(folder, *more, images=IMAGES, alike=True) as started:
        end = time.monotonic() + 10 * LIMIT_S
        adam = Person(started, realm, "adam")
        while adam.ask("GET", "/info/").json()["atlas8k"]["scored"] < len(IMAGES):
            assert time.monotonic() < end, started.text()[-3000:]
            time.sleep(0.5)
        yield started


class Person:
    """Somebody who has signed in, and what a CT looks like to them."""

    def __init__(self, server: Server, realm: Realm, name: str) -> None:
        self.server, self._headers = server, bearer(realm.token(name))

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(
            method, self.server.url + path, headers=self._headers, timeout=LIMIT_S, **more
        )

    def next(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("POST", "/activelearning/attention", json={}).json()
        return found

    def submit(self, image: str, organ: int) -> dict[str, Any]:
        content = label_bytes(self.server.log.parent, organ)
        answer = put_label(self.server, content, image, headers=self._headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def look(self, image: str, *, tries: bool = False) -> dict[str, tuple[Any, ...]]:
        """What every route says of a CT, without what is another's for every CT."""
        found = {}
        for method, path in PATHS + (REFUSED if tries else []):
            said = {"submission": 1} if path.endswith("restore") else {}
            answer = self.ask(method, path.format(image), json=said if method == "POST" else None)
            assert answer.status_code < 500, (path, answer.text[:500])
            kind = answer.headers["Content-Type"]
            content: Any = answer.content
            if path.startswith(LABEL) and answer.ok and answer.content:
                content = said_in(answer.content, self.server.log.parent, image)
            elif kind.startswith("text/html"):
                content = without_names(answer.text, image)
            elif kind.startswith("application/json") and method != "HEAD":
                content = without_names(json.dumps(of_image(answer.json(), image)), image)
            found[f"{method} {path}"] = (answer.status_code, kind, sorted(answer.headers), content)
        return found


LABEL = "/datastore/label?label={}&tag="
PATHS = [
    *(
        ("GET", f"{LABEL}{tag}")
        for tag in ("final", "original", "pseudo", "public", "draft", "beside")
    ),
    *(("HEAD", f"{LABEL}{tag}") for tag in ("final", "original")),
    *(("GET", f"/datastore/label/info?label={{}}&tag={tag}") for tag in ("final", "original")),
    ("GET", "/datastore/?output=all"),
    ("GET", "/datastore/?output=train"),
    ("GET", "/datastore/image/info?image={}"),
    ("GET", "/atlas8k/labels/{}/history"),
    ("GET", "/atlas8k/labels/{}/history/1"),
    ("GET", "/atlas8k/review/{}"),
    ("GET", "/atlas8k/case?image={}"),
    ("GET", "/atlas8k/case/slices?image={}&x=8&y=8&z=8"),
    ("POST", "/atlas8k/case/layer?image={}&key=final"),
    ("POST", "/atlas8k/case/layer?image={}&key=start"),
    ("POST", "/atlas8k/case/layer?image={}&key=submission-1"),
    ("GET", "/atlas8k/list?q={}.&show=all"),
    ("GET", "/atlas8k/list?q={}&show=open"),
    ("GET", "/atlas8k/list?q={}&show=submitted"),
    ("GET", "/atlas8k/thumbnail?image={}"),
    ("GET", "/atlas8k/cases/list"),
    ("GET", "/atlas8k/cases/{}/start"),
    ("GET", "/atlas8k/cases/{}/drawing"),
    ("GET", "/atlas8k/reviews/case?image={}"),
    ("POST", "/infer/draft?image={}&output=image"),
]
REFUSED = [
    ("POST", "/atlas8k/labels/{}/reopen"),
    ("POST", "/atlas8k/labels/{}/restore"),
    ("POST", "/atlas8k/cases/{}/reopen"),
    ("POST", "/atlas8k/cases/{}/restore"),
    ("POST", "/atlas8k/cases/{}/release"),
]
"""What may not be done with a CT that one has not read."""


def of_image(said: Any, image: str) -> Any:
    """Leave what a reply says of one CT."""
    if isinstance(said, dict) and "objects" in said:
        return said["objects"][image]
    if isinstance(said, dict) and "submitted" in said and "open" in said:
        return {key: [one for one in lines if one["image"] == image] for key, lines in said.items()}
    if isinstance(said, list):
        return [one for one in said if f"/{image}.nii.gz" in one["image"]]
    return said


def without_names(text: str, image: str) -> str:
    """Blot out a CT's name, times, numbers of leases and submissions, and places of the list."""
    for pattern in (
        r'"(ts|budget_left|restored|lease|expires_at|seconds_left|submission|submitted_at|id|rank|start_submission'
        r'|minutes|started|taken_at|place)": [-\d.e]+',
        r'(?<=datetime=")[^<]*(?=</time>)',
        r"(?:submission|lease|annotator|place)[ =-]?\d+",
        r'(?<=data-name="place">)\d+',
        r"place \d+ of \d+|\d+ of \d+|\((\d+)\)|\d+ volumes?, \d+ to \d+ shown",
        r"&#34;(?:ends&#34;: [\d.]+|fingerprint&#34;: &#34;[-\d]+&#34;|lease&#34;: \d+)",
        r"history/\d+",
        r'"(?:sha256|start_sha256|checksum|content|file)": "[^"]*"|"(at|begun_from)": [\d.]+',
        r"as of [^<]*",
    ):
        text = re.sub(pattern, "#", text)
    return re.sub(rf"\b{image}\b", "CT", text)


def said_in(content: bytes, folder: Path, image: str) -> tuple[str, bytes]:
    """What a label file says of itself, and its voxels."""
    path = folder / "answer.nii.gz"
    path.write_bytes(content)
    label = read_label(path)
    said = [part.get_content().decode() for part in nib.load(path).header.extensions]
    return without_names(" ".join(said), image), label.array.tobytes()


def count_of(person: Person) -> int:
    """How many volumes of the round were reviewed, as one is told."""
    rounds = person.ask("GET", "/atlas8k/campaign").json()["rounds"]
    return int(rounds[-1]["reviewed"])


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    differs = {path: (found, other[path]) for path, found in one.items() if found != other[path]}
    assert not differs, "\n".join(
        f"{path}: {first!r:.2000}\n-- {second!r:.2000}" for path, (first, second) in differs.items()
    )


def test_nothing_tells_a_gold_case_from_another(server: Server, realm: Realm) -> None:
    anna, ben, cara, ruth = (
        Person(server, realm, name) for name in ("anna", "ben", "cara", "ruth")
    )
    same(ben.look(GOLD, tries=True), ben.look(PLAIN, tries=True))
    # The first reader has it like any other; the others see nothing of that.
    taken = anna.ask("POST", f"/atlas8k/cases/{GOLD}/take", json={})
    assert taken.status_code == 200, taken.text
    first = anna.submit(GOLD, 6)
    assert ruth.ask("GET", f"{LABEL.format(GOLD)}final").status_code == 200
    same(ben.look(GOLD, tries=True), ben.look(PLAIN, tries=True))
    by_anna, by_cara = anna.look(GOLD), cara.look(GOLD)
    counts = cara.ask("GET", "/datastore/").json()
    assert counts["completed"] == 0
    assert ruth.ask("GET", "/datastore/").json()["completed"] == 1

    # The second gets it in place of another.
    samples, held, receipts, done = {}, {}, {}, []
    assert count_of(ben) == 0
    for _ in range(2):
        sample = ben.next()
        name = "gold" if sample["id"] == GOLD else "plain"
        samples[name], held[name] = sample, ben.look(sample["id"])
        receipts[name] = ben.submit(sample["id"], 5)
        done.append((sample["budget_left"], count_of(ben)))
    same(held["gold"], held["plain"])
    # Each is one less of the budget; to whoever sees all, one of them is not.
    assert done == [(6, 1), (5, 2)]
    assert (count_of(ruth), count_of(cara), count_of(anna)) == (2, 1, 2)
    own = samples["plain"]["id"]
    gold, plain = (
        without_names(json.dumps(one), one["id"]) for one in (samples["gold"], samples["plain"])
    )
    assert gold == plain
    receipt, usual = receipts["gold"], receipts["plain"]
    assert receipt.keys() == usual.keys()
    drop = {"image", "label", "submission", "minutes"}
    assert {k: receipt[k] for k in receipt.keys() - drop} == {
        k: usual[k] for k in usual.keys() - drop
    }
    assert isinstance(receipt["minutes"], float)
    assert "anna" not in json.dumps([samples["gold"], receipt])

    # He has submitted both; neither the first reader nor anybody else sees what he did.
    same(ben.look(GOLD), ben.look(own))
    same(anna.look(GOLD), by_anna)
    same(cara.look(GOLD), by_cara)
    listed = [one["image"] for one in ben.ask("GET", "/atlas8k/cases/list").json()["submitted"]]
    assert set(listed) == {GOLD, own}
    reviewed = ruth.ask("GET", f"/atlas8k/review/{GOLD}").json()
    assert [one["purpose"] for one in reviewed["submissions"]] == ["revise", "gold"]
    assert [one["in_force"] for one in reviewed["submissions"]] == [True, False]
    assert reviewed["submissions"][0]["id"] == first["submission"]
    assert reviewed["reviews"] == []

    # He opens both again, changes his mind, and puts the first back.
    for image in (GOLD, own):
        again = ben.ask("POST", f"/atlas8k/cases/{image}/reopen", json={})
        assert again.status_code == 200, again.text
        assert ben.submit(image, 7)["in_force"] is True
        number = receipts["gold" if image == GOLD else "plain"]["submission"]
        back = ben.ask("POST", f"/atlas8k/labels/{image}/restore", json={"submission": number})
        assert back.status_code == 200, back.text
    same(ben.look(GOLD), ben.look(own))
    same(anna.look(GOLD), by_anna)
    # He never gets it again, and who has no other left gets nothing.
    rest = set()
    while image := ben.next().get("id"):
        rest.add(image)
        ben.submit(image, 5)
    assert rest == set(IMAGES) - {GOLD, own}


def test_who_submits_it_unasked_is_answered_as_of_any_other(server: Server, realm: Realm) -> None:
    dora = Person(server, realm, "dora")
    receipt = dora.submit(GOLD, 5)
    assert (receipt["conflict"], receipt["in_force"], receipt["review"]) == (False, True, [])
    assert (receipt["late"], receipt["minutes"]) == (True, None)


def test_reviewers_alone_see_how_good_each_is(server: Server, realm: Realm) -> None:
    anna, ruth = Person(server, realm, "anna"), Person(server, realm, "ruth")
    end = time.monotonic() + LIMIT_S
    while "measured" in (text := ruth.ask("GET", "/atlas8k/").text):
        assert time.monotonic() < end, text[-3000:]
        time.sleep(0.3)
    table = text[text.index('id="gold"') :]
    table = table[: table.index("</table>")]
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td class="n">(\d+)</td>\s*'
                      r'<td class="n">([^<]*)</td><td class="n">([^<]*)</td>', table)  # fmt: skip
    # Anna drew the stomach's place as the pancreas, Ben and Dora as the known label has it.
    assert rows == [
        ("annotator 1", "1", "0.000", "0.000"),
        ("annotator 2", "1", "1.000", "1.000"),
        ("annotator 3", "1", "1.000", "1.000"),
    ]
    for path in ("/atlas8k/", "/atlas8k/list", "/atlas8k/campaign", "/info/", "/atlas8k/cases"):
        shown = anna.ask("GET", path).text
        assert "gold" not in shown.lower(), path
        assert "known label" not in shown.lower(), path


def test_who_may_review_gets_them_in_their_order_alone(server: Server, realm: Realm) -> None:
    """Ruth could see which they are."""
    assert Person(server, realm, "ruth").next() == {}


def test_what_cannot_be_used_is_refused_at_the_start(realm: Realm, tmp_path: Path) -> None:
    """In words, and once; what else is refused is tested with the service."""
    words = "--conf gold .*nowhere: there is no such folder"
    more = ("--conf", "gold", str(tmp_path / "nowhere"))
    with pytest.raises(AssertionError, match=words), small_server(tmp_path, *more):
        pass
