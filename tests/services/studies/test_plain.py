from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas8k.services.errors import RequestError
from atlas8k.services.studies.plain import dumps, merged, plain

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
    | st.binary() | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text() | st.integers() | st.floats(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(ANYTHING)
def test_whatever_is_sent_can_be_sent_on(value: Any) -> None:
    text = dumps(plain(value))
    assert json.loads(text.encode()) == json.loads(text)
    assert plain(plain(value)) == plain(value)


def test_values_json_has_not() -> None:
    assert plain({"a": math.nan, 1: [math.inf, np.float32(2), np.int64(3)], "b": {4}}) == {
        "a": None,
        "1": [None, 2.0, 3],
        "b": [4],
    }


def test_the_servers_own_keys_are_not_the_clients() -> None:
    sent = {"name": "other.nii.gz", "path": "/etc/passwd", "checksum": "SHA256:0", "mine": 1}
    assert merged({"x": 1, "mine": 0}, sent) == {"x": 1, "mine": 1}


def test_strategies_do_not_overwrite_each_other() -> None:
    known = merged({}, {"strategy": {"first": {"ts": 1}}})
    known = merged(known, {"strategy": {"attention": {"ts": 2}}})
    assert known == {"strategy": {"first": {"ts": 1}, "attention": {"ts": 2}}}


def test_too_much_is_refused() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(RequestError, match="deeper"):
        merged({}, {"a": deep})
    with pytest.raises(RequestError, match="larger"):
        merged({}, {"a": "x" * (1 << 21)})
