"""Who is experienced, and what is kept from those who are not."""

from __future__ import annotations

import pytest

from atlas8k.core.settings import Settings
from atlas8k.server.tasks.strategy import kept_from
from atlas8k.store import Holder


@pytest.mark.parametrize(
    ("conf", "holder", "kept"),
    [
        ({}, Holder("user:ann"), 0.0),
        ({"seniors": "ann, bob"}, Holder("user:bob"), 0.0),
        ({"seniors": "ann, bob"}, Holder("client:ann"), 0.0),
        ({"seniors": "ann"}, Holder("user:anna"), 0.2),
        ({"seniors": "ann", "senior_percent": "35"}, Holder("user:cy"), 0.35),
        ({"seniors": "10.0.0.1"}, Holder("anonymous:10.0.0.1", anonymous=True), 0.2),
    ],
)
def test_kept(conf: dict[str, str], holder: Holder, kept: float) -> None:
    assert kept_from(holder, Settings.from_conf(conf)) == pytest.approx(kept)
