"""Log lines that nobody outside can forge or multiply."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import monailabel
import pytest

from atlas8k.server.logs import LOGGERS, MINUTE_S, OneLine, Repeated, plain

Line = Callable[[], list[str]]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def logged(
    name: str, clock: Clock, say: Callable[[logging.Logger], None], handlers: int = 2
) -> list[str]:
    """What two handlers with one filter write, the same in each."""
    logger = logging.Logger(name)
    repeated, streams = Repeated(clock), [io.StringIO() for _ in range(handlers)]
    for stream in streams:
        handler = logging.StreamHandler(stream)
        handler.addFilter(repeated)
        handler.addFilter(OneLine())
        logger.addHandler(handler)
    say(logger)
    texts = {stream.getvalue() for stream in streams}
    assert len(texts) == 1
    return texts.pop().splitlines()


def test_a_name_with_line_breaks_is_one_line(clock: Clock) -> None:
    name = "a\n[2026] INFO forged\r\x1b[31mred\u2028\u202eback\ud800\x85"

    def say(logger: logging.Logger) -> None:
        logger.info("no %s here", name)
        try:
            raise ValueError(name)
        except ValueError:
            logger.exception("what")

    lines = logged("x", clock, say)
    assert lines[0] == (r"no a\n[2026] INFO forged\r\x1b[31mred\u2028\u202eback\ud800\x85 here")
    assert lines[1] == "what"
    assert lines[2] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in lines[2:])
    assert not any("\x1b" in line for line in lines)


def test_what_is_plain_stays() -> None:
    assert plain("C:\\new\tä 😀") == "C:\\new\tä 😀"


def test_one_line_a_minute_of_what_asyncio_repeats(clock: Clock) -> None:
    def say(logger: logging.Logger) -> None:
        for number in range(10_000):
            clock.now = number * MINUTE_S / 4000
            logger.error("socket.accept() out of system resource %d", number)

    lines = logged("asyncio", clock, say)
    assert len(lines) == 3
    assert lines[1].endswith("(and 3999 like this before)")


def test_errors_with_an_id_are_all_there(clock: Clock) -> None:
    def say(logger: logging.Logger) -> None:
        for number in range(100):
            logger.error("id %d", number)
            logger.info("refused %d", number)

    lines = logged("atlas8k.server.faults", clock, say)
    assert sum("id" in line for line in lines) == 100
    assert sum("refused" in line for line in lines) == 20


@pytest.mark.parametrize("name", ["atlas8k.training.loop", "atlas8k.server.tasks.scoring", "root"])
def test_other_loggers_say_what_they_like(clock: Clock, name: str) -> None:
    def say(logger: logging.Logger) -> None:
        for number in range(100):
            logger.info("epoch %d", number)

    assert len(logged(name, clock, say)) == 100


def test_the_log_file_is_bounded() -> None:
    """As MONAI Label sets it up; who gives another ``--log_config`` sees to it."""
    config = json.loads((Path(monailabel.__file__).parent / "logging.json").read_text())
    files = [one for one in config["handlers"].values() if "filename" in one]
    assert files
    for one in files:
        assert one["class"] == "logging.handlers.RotatingFileHandler"
        assert one["maxBytes"] * (1 + one["backupCount"]) < 200_000_000
    assert set(LOGGERS) | {"uvicorn.access"} == {"", *config["loggers"]}
