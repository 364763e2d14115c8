"""Signing in from the browser itself: the page, its cookie, and what the cookie is good for."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer, signed_in
from tests.e2e.small import LIMIT_S, label_bytes, small_server

from atlas8k.store import Ledger, audit_trail

pytestmark = pytest.mark.slow
PAGE = {"Accept": "text/html,application/xhtml+xml"}
SIGN_IN = "/atlas8k/sign-in"


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with signed_in() as started:
        yield started


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    more = ("--conf", "cors_origins", "https://viewer.example", "--conf", "allowed_hosts", "at.org")
    with small_server(tmp_path_factory.mktemp("browser"), *more) as started:
        yield started


@pytest.fixture(autouse=True)
def usual(realm: Realm) -> Iterator[None]:
    yield
    realm.lasts_s, realm.refreshes = 600, True


class Browser(requests.Session):
    """What a browser sends with every request of our own pages."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.root = server.url
        self.headers.update({**PAGE, "Origin": server.url, "Sec-Fetch-Site": "same-origin"})

    def request(  # type: ignore[override]
        self, method: str, url: str, **more: Any
    ) -> requests.Response:
        return super().request(method, self.root + url, **{"timeout": LIMIT_S, **more})

    def sign_in(self, name: str = "anna", word: str = "", to: str = "") -> requests.Response:
        form = {"username": name, "password": word or f"{name}'s word", "to": to}
        return self.post(SIGN_IN, data=form, allow_redirects=False)


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server)


def test_one_signs_in_and_goes_on_to_where_one_wanted(browser: Browser) -> None:
    wanted = "/atlas8k/list?q=a&show=open"
    asked = browser.get(wanted, allow_redirects=False)
    assert asked.status_code == 303
    assert asked.headers["cache-control"] == "no-store"
    where = urlsplit(asked.headers["location"])
    (to,) = parse_qs(where.query)["to"]
    assert (where.netloc, where.path, to) == ("", SIGN_IN, wanted)
    page = browser.get(asked.headers["location"])
    assert page.status_code == 200
    assert '<input type="password" name="password"' in page.text
    assert "http-equiv" not in page.text
    done = browser.sign_in(to=to)
    assert (done.status_code, done.headers["location"]) == (303, wanted)
    page = browser.get(wanted)
    assert "Signed in as <strong>anna</strong>" in page.text
    assert ">Sign out</button>" in page.text
    assert browser.get(asked.headers["location"]).url.endswith(wanted)  # signed in already


def test_the_cookie_is_for_no_script_no_other_site_and_holds_no_token(
    browser: Browser, server: Server
) -> None:
    number = server.url.rpartition(":")[2]
    (text,) = browser.sign_in().headers["set-cookie"].splitlines()
    (pair, *flags) = text.split("; ")
    name, _, value = pair.partition("=")
    assert name == f"atlas8k_session_{number}"
    assert {flag.lower() for flag in flags} == {"httponly", "samesite=strict", "path=/"}
    assert len(value) == 43
    assert "." not in value  # a token has dots
    https = {"X-Forwarded-Proto": "https"}, {"Host": "at.org", "Origin": "https://at.org"}
    for headers in https:
        browser.headers.update(headers)
        assert "; Secure" in browser.sign_in().headers["set-cookie"]


def test_a_wrong_password_is_said_in_words_and_too_many_wait(browser: Browser) -> None:
    for number in range(6):
        page = browser.sign_in("uwe", f"guess {number}", to="/atlas8k/list")
        if number < 5:
            assert page.status_code == 401
            assert "Name or password is wrong." in page.text
            assert "guess" not in page.text
            assert 'value="uwe"' in page.text
            assert 'name="to" value="/atlas8k/list"' in page.text
        assert "set-cookie" not in page.headers
    assert page.status_code == 429
    assert "Too many sign-ins that failed; try again in" in page.text
    assert int(page.headers["retry-after"]) > 0
    assert browser.sign_in("uwe").status_code == 429  # the right one neither


@pytest.mark.parametrize(
    "to",
    [
        *("//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example"),
        *("/\t/evil.example", "/\n/evil.example", " //evil.example", "javascript:alert(1)"),
        *("///evil.example", "/a\\..\\evil", "evil.example", "/é", "/" + "a" * 5000),
    ],
)
def test_nobody_is_sent_to_another_server(browser: Browser, to: str) -> None:
    page = browser.get(SIGN_IN, params={"to": to})
    assert "evil" not in page.text
    assert 'name="to" value="/atlas8k/"' in page.text
    assert browser.sign_in(to=to).headers["location"] == "/atlas8k/"
    answer = browser.get(SIGN_IN, params={"to": to}, allow_redirects=False)
    assert answer.headers["location"] == "/atlas8k/"


def test_the_cookie_works_for_pages_and_what_they_ask(browser: Browser, tmp_path: Path) -> None:
    """A case is taken, kept, drawn in and submitted, looked at in OHIF, found on one's page."""
    browser.sign_in()
    image = browser.post("/activelearning/first", json={}).json()["id"]
    lease = browser.post(f"/atlas8k/cases/{image}/take", json={}).json()["lease"]
    assert browser.post(f"/atlas8k/cases/{image}/renew", json={"lease": lease}).ok
    listed = browser.get("/atlas8k/cases/list").json()["open"]
    assert [one["image"] for one in listed] == [image]
    assert image in browser.get("/atlas8k/cases").text
    picture = browser.get(f"/atlas8k/case/slices?image={image}&x=1&y=1&z=1")
    assert picture.headers["content-type"].startswith("image/")
    assert browser.get("/ohif/").ok
    assert browser.get("/proxy/dicom/studies", headers={"Accept": "*/*"}).status_code == 404
    drawing = {"version": 0, "fingerprint": "of another CT"}
    kept = browser.put(f"/atlas8k/cases/{image}/drawing", data=drawing)
    assert kept.status_code == 409, kept.text
    label = {"label": ("label.nii.gz", io.BytesIO(label_bytes(tmp_path)))}
    sent = browser.put(f"/datastore/label?image={image}", files=label)
    assert sent.status_code == 200, sent.text
    assert browser.get("/atlas8k/cases/list").json()["submitted"][0]["image"] == image
    page = browser.get("/logs/")
    assert page.status_code == 403  # the role is the token's
    assert "This is not for your role" in page.text
    assert ">Sign out</button>" in page.text


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://viewer.example"}, 403),  # may call, but not as who is signed in
        ({"Origin": None, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": None, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": None, "Sec-Fetch-Site": None}, 403),  # no browser of today
        ({"Origin": None}, 200),
        ({"Sec-Fetch-Site": None}, 200),
        ({}, 200),
    ],
)
def test_a_page_elsewhere_changes_nothing_by_the_cookie(
    browser: Browser, realm: Realm, headers: dict[str, Any], code: int
) -> None:
    browser.sign_in("ruth")
    for where in ("/activelearning/first", "/atlas8k/sweep/next"):
        answer = browser.post(where, json={}, headers=headers)
        assert answer.status_code == code, answer.text
    token = bearer(realm.token("ruth"))
    answer = browser.post("/atlas8k/sweep/next", json={}, headers={**headers, **token})
    named = headers.get("Origin") == "https://viewer.example" or not any(headers.values())
    assert answer.status_code == (200 if named else code)  # as ever
    read = browser.get("/atlas8k/cases/list", headers={**headers, "Accept": "*/*"})
    assert "access-control-allow-credentials" not in read.headers


def test_a_page_elsewhere_signs_nobody_in_or_out(browser: Browser) -> None:
    """Nor one that may call, `cors_origins`: it would choose as whom one works on."""
    browser.sign_in("anna")
    for headers in ({"Origin": "https://viewer.example"}, {"Origin": None, "Sec-Fetch-Site": None}):
        form = {"username": "uwe", "password": "uwe's word"}
        for where in (SIGN_IN, "/atlas8k/sign-out"):
            page = browser.post(where, data=form, headers=headers, allow_redirects=False)
            assert page.status_code == 403
            assert "That was sent by no page of this server, and nothing was done." in page.text
            assert "set-cookie" not in page.headers
    assert browser.get("/auth/token/valid").json()["username"] == "anna"


def test_no_cache_keeps_what_a_cookie_opened(browser: Browser, realm: Realm) -> None:
    browser.sign_in()
    slices = "/atlas8k/case/slices?image=a&x=1&y=1&z=1"
    for where in ("/datastore/image?image=a", "/info/", slices, "/datastore/image?image=none"):
        answer = browser.get(where, headers={"Accept": "*/*"})
        assert answer.headers["cache-control"] == "private, no-cache", where
    assert browser.get("/atlas8k/cases").headers["cache-control"] == "no-store"
    answer = browser.get("/info/", headers=bearer(realm.token("ruth")))
    assert "cache-control" not in answer.headers


def test_who_asks_is_forgotten_before_the_connection_is_used_again(browser: Browser) -> None:
    """While a body comes that is larger than its buffer, uvicorn reads on in its request's name."""
    browser.sign_in()
    label = {"label": ("label.nii.gz", io.BytesIO(bytes(4 << 20)))}
    sent = browser.put(
        "/atlas8k/cases/a/drawing", data={"version": 0, "fingerprint": "x"}, files=label
    )
    assert sent.status_code == 409, sent.text
    browser.cookies.clear()
    page = browser.get("/nowhere")
    assert page.status_code == 404
    assert "Signed in as" not in page.text


def test_a_bearer_token_counts_before_the_cookie(browser: Browser, realm: Realm) -> None:
    browser.sign_in("anna")
    who = "/auth/token/valid"
    assert browser.get(who).json()["username"] == "anna"
    assert browser.get(who, headers=bearer(realm.token("ruth"))).json()["username"] == "ruth"
    # A proxy's token that is not good: no page to sign in on, which would change nothing.
    page = browser.get("/atlas8k/", headers=bearer("x.y.z"), allow_redirects=False)
    assert page.status_code == 401
    assert "Open this server by the address" in page.text


def test_programs_get_401_and_forms_are_told_to_sign_in_elsewhere(browser: Browser) -> None:
    for accept in ("*/*", "application/json", "image/avif,image/webp,*/*"):
        answer = browser.get("/atlas8k/", headers={"Accept": accept}, allow_redirects=False)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    answer = browser.post("/atlas8k/cases", data={"do": "take", "image": "a"})
    assert answer.status_code == 401
    assert "in another tab, then load this page again" in answer.text


def test_a_link_of_another_site_finds_who_is_signed_in(browser: Browser) -> None:
    """It comes without the cookie; the page's own step, at once, has it."""
    page = browser.get(
        "/atlas8k/list?q=b", headers={"Sec-Fetch-Site": "cross-site", "Origin": None}
    )
    assert '<meta http-equiv="refresh" content="0;url=/atlas8k/list?q=b">' in page.text


def test_a_token_that_ends_is_followed_by_the_next(browser: Browser, realm: Realm) -> None:
    realm.lasts_s = 1
    browser.sign_in()
    before = len(realm.asked)
    time.sleep(1.2)
    assert browser.get("/auth/token/valid").json()["username"] == "anna"
    assert realm.asked[before:] == ["refresh_token"]
    realm.lasts_s = 600
    assert browser.get("/atlas8k/work").ok
    assert browser.get("/atlas8k/work").ok
    assert realm.asked[before:] == ["refresh_token"] * 2


def test_it_ends_where_the_realm_ends_it(browser: Browser, realm: Realm) -> None:
    realm.lasts_s = 1
    browser.sign_in()
    realm.sessions.clear()
    time.sleep(1.2)
    answer = browser.get("/atlas8k/work", headers={"Accept": "*/*"})
    assert answer.status_code == 401
    assert "sign in again" in answer.json()["detail"]
    realm.refreshes = False
    browser.sign_in()
    assert browser.get("/atlas8k/work").ok
    time.sleep(1.2)
    assert browser.get("/atlas8k/work", headers={"Accept": "*/*"}).status_code == 401


def test_signing_out_ends_it_here_whatever_the_browser_keeps(browser: Browser) -> None:
    browser.sign_in()
    kept = browser.cookies.get_dict()
    answer = browser.post("/atlas8k/sign-out")
    assert "You are signed out." in answer.text
    assert not browser.cookies.get_dict()
    for cookies in ({}, kept):
        answer = browser.get("/atlas8k/work", headers={"Accept": "*/*"}, cookies=cookies)
        assert answer.status_code == 401


def test_a_realm_that_is_away_is_said(browser: Browser, realm: Realm) -> None:
    def away(_: dict[str, str]) -> dict[str, Any]:
        return {"no": "token"}

    realm.granted, before = away, realm.granted  # type: ignore[method-assign,assignment]
    page = browser.sign_in()
    realm.granted = before  # type: ignore[method-assign]
    assert page.status_code == 503
    assert "The sign-in server does not answer" in page.text
    realm.lasts_s = -100
    page = browser.sign_in()
    assert page.status_code == 401
    assert "This server does not take the token of the sign-in server" in page.text


def test_one_sign_in_is_one_record_however_many_tokens_follow(server: Server, realm: Realm) -> None:
    realm.lasts_s = 1
    browser = Browser(server)
    browser.headers["User-Agent"] = "of this test"
    browser.sign_in()
    for _ in range(3):
        assert browser.get("/atlas8k/work").ok
    time.sleep(2)  # it is written by a thread of its own
    with Ledger(server.studies / ".atlas8k" / "ledger.sqlite").read() as tx:
        found = [json.loads(line) for line in audit_trail.lines(tx)]
    found = [one for one in found if one.get("software") == "of this test"]
    assert [(one["action"], one["by"]) for one in found] == [("sign_in", "user:anna")]
