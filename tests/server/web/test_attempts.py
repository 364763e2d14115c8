"""How long to wait after sign-ins that failed."""

from __future__ import annotations

from atlas8k.server.attempts import FORGOTTEN_S, FREE, LONGEST_WAIT_S, MOST_KEPT, Attempts


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_wait_doubles_and_ends() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    waits = []
    for _ in range(14):
        attempts.failed("anna", "10.0.0.1")
        waits.append(attempts.wait_s("Anna", "10.0.0.1"))
        clock.now += waits[-1]
        assert attempts.wait_s("anna", "10.0.0.1") == 0
    assert waits[:7] == [0, 0, 0, 0, 30, 60, 120]
    assert waits[-1] == LONGEST_WAIT_S
    clock.now += FORGOTTEN_S + 1
    attempts.failed("anna", "10.0.0.1")
    assert attempts.wait_s("anna", "10.0.0.1") == 0


def test_the_right_password_begins_anew() -> None:
    attempts = Attempts(Clock())
    for _ in range(3):
        for _ in range(FREE["both"] - 1):
            attempts.failed("anna", "10.0.0.1")
        attempts.succeeded("anna", "10.0.0.1")
    assert attempts.wait_s("anna", "10.0.0.1") == 0


def test_an_address_that_tries_many_names_and_a_name_tried_from_many_addresses() -> None:
    attempts = Attempts(Clock())
    for n in range(FREE["address"]):
        assert attempts.wait_s("somebody", "10.0.0.1") == 0
        attempts.failed(f"name {n}", "10.0.0.1")
    assert attempts.wait_s("somebody", "10.0.0.1") > 0
    assert attempts.wait_s("name 0", "10.0.0.2") == 0
    for n in range(FREE["user"]):
        assert attempts.wait_s("rita", "10.1.0.0") == 0
        attempts.failed("rita", f"10.1.1.{n}")
    assert attempts.wait_s("rita", "10.1.0.0") > 0


def test_what_is_remembered_is_bounded() -> None:
    attempts = Attempts(Clock())
    for n in range(MOST_KEPT):
        attempts.failed(f"name {n}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    assert len(attempts._failures) == MOST_KEPT
