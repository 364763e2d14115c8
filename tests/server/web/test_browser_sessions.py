"""Sessions of browsers: when their tokens are renewed, and when they end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from atlas8k.server import browser_sessions
from atlas8k.server.browser_sessions import AGAIN_S, EARLY_S, IDLE_S, MOST, BrowserSessions
from atlas8k.server.grants import Grant, RefusedError
from atlas8k.server.tokens import RealmError

LASTS_S = 300.0


class Clock:
    now = 1e6

    def __call__(self) -> float:
        return self.now


class Realm:
    """Gives tokens that are numbered; a refresh token counts once."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.number, self.asked = clock, 0, 0
        self.error: Exception | None = None
        self.takes_s = self.hangs_s = 0.0

    def grant(self) -> Grant:
        self.number += 1
        end = {"exp": self.clock.now + LASTS_S, "n": self.number}
        return Grant(jwt.encode(end, "x" * 32, "HS256"), str(self.number))

    def renew(self, before: Grant) -> Grant:
        self.asked += 1
        time.sleep(self.takes_s)
        self.clock.now += self.hangs_s
        if self.error is not None:
            raise self.error
        if before.refresh != str(self.number):
            raise RefusedError
        return self.grant()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def realm(clock: Clock) -> Realm:
    return Realm(clock)


@pytest.fixture
def sessions(realm: Realm, clock: Clock) -> BrowserSessions:
    return BrowserSessions(realm.renew, clock)


def test_a_day_is_many_access_tokens_each_asked_for_shortly_before_one_ends(
    sessions: BrowserSessions, realm: Realm, clock: Clock
) -> None:
    number, begun = sessions.begin(realm.grant()), clock.now
    given = set()
    while clock.now < begun + 8 * 3600:
        token = sessions.token(number)
        assert token is not None
        ends = jwt.decode(token, options={"verify_signature": False})["exp"]
        assert ends > clock.now + EARLY_S - 10  # never one that is about to end
        given.add(token)
        clock.now += 10
    assert len(given) == realm.number
    assert 100 < realm.number <= 8 * 3600 / (LASTS_S - EARLY_S) + 1


def test_a_session_ends_where_the_realm_ends_it_or_nothing_is_asked(
    sessions: BrowserSessions, realm: Realm, clock: Clock
) -> None:
    number = sessions.begin(realm.grant())
    clock.now += IDLE_S + 1
    assert sessions.token(number) is None
    assert realm.asked == 0
    number = sessions.begin(realm.grant())
    realm.error = RefusedError()
    clock.now += LASTS_S
    assert sessions.token(number) is None
    realm.error = None
    assert sessions.token(number) is None
    assert realm.asked == 1
    assert sessions.token("") is None


def test_without_a_refresh_token_it_ends_with_the_access_token(
    sessions: BrowserSessions, realm: Realm, clock: Clock
) -> None:
    number = sessions.begin(Grant(realm.grant().access))
    clock.now += LASTS_S - 1
    assert sessions.token(number)
    clock.now += 1
    assert sessions.token(number) is None
    assert realm.asked == 0


def test_a_realm_that_is_away_is_no_end_and_is_not_asked_by_every_request(
    sessions: BrowserSessions, realm: Realm, clock: Clock
) -> None:
    number = sessions.begin(realm.grant())
    realm.error = RealmError("away")
    clock.now += LASTS_S - 5
    old = sessions.token(number)
    assert old == sessions.token(number)
    assert realm.asked == 1
    clock.now += 5
    for _ in range(5):
        with pytest.raises(RealmError):
            sessions.token(number)
    assert realm.asked == 1
    realm.error = None
    clock.now += AGAIN_S
    assert sessions.token(number) not in {old, None}


def ask_at_once(sessions: BrowserSessions, number: str) -> set[str | None]:
    """Return what eight requests get; "away" where the realm does not answer."""
    start = threading.Barrier(8)

    def ask(_: int) -> str | None:
        start.wait()
        try:
            return sessions.token(number)
        except RealmError:
            return "away"

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(ask, range(8)))


@pytest.mark.parametrize("past_s", [-5.0, 5.0])
def test_requests_at_the_same_moment_ask_once(
    sessions: BrowserSessions, realm: Realm, clock: Clock, past_s: float
) -> None:
    """A refresh token that is used twice would end the session at the realm."""
    number = sessions.begin(realm.grant())
    clock.now += LASTS_S + past_s
    realm.takes_s = 0.2
    found = ask_at_once(sessions, number)
    assert realm.asked == 1
    assert None not in found
    assert (len(found) == 1) == (past_s > 0)  # before its end the old one is good


def test_a_realm_that_hangs_is_asked_once_by_all_who_wait(
    sessions: BrowserSessions, realm: Realm, clock: Clock
) -> None:
    number = sessions.begin(realm.grant())
    clock.now += LASTS_S
    realm.takes_s, realm.hangs_s, realm.error = 0.2, AGAIN_S, RealmError("no answer in time")
    assert ask_at_once(sessions, number) == {"away"}
    assert realm.asked == 1


def test_nobody_waits_long_for_the_renewal_of_another(
    sessions: BrowserSessions, realm: Realm, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_sessions, "WAIT_S", 0.05)
    number = sessions.begin(realm.grant())
    clock.now += LASTS_S
    realm.takes_s = 1.0
    found = ask_at_once(sessions, number)
    assert "away" in found
    assert len(found) == 2  # one has asked, and has the next token
    assert sessions.token(number) in found
    assert realm.asked == 1


def test_a_session_that_the_realm_has_ended_has_ended_for_all_who_wait(
    sessions: BrowserSessions, realm: Realm, clock: Clock
) -> None:
    number = sessions.begin(realm.grant())
    clock.now += LASTS_S
    realm.takes_s, realm.error = 0.1, RefusedError()
    assert ask_at_once(sessions, number) == {None}


def test_they_are_bounded_and_the_one_idle_longest_goes(
    sessions: BrowserSessions, realm: Realm
) -> None:
    grant = realm.grant()
    numbers = [sessions.begin(grant) for _ in range(MOST)]
    assert len(set(numbers)) == MOST
    assert sessions.token(numbers[0])
    last = sessions.begin(grant)
    assert sessions.token(numbers[1]) is None
    assert sessions.token(numbers[0]) == sessions.token(last) == grant.access
    sessions.end(last)
    assert sessions.token(last) is None
