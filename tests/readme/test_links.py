"""Links of the README files lead to something that is there."""

from __future__ import annotations

import re

import pytest
from tests.readme.commands import READMES, ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")
TICKED = re.compile(r"`((?:apps|lib|tests|sample-datasets)/[\w./-]+)`")
MADE = ("sample-datasets/phantoms", "sample-datasets/dicom")
"""What commands make."""


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_are_there(readme):
    text = readme.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if not target.startswith(("http://", "https://", "#")):
            assert (readme.parent / target.partition("#")[0]).exists(), target
    for path in TICKED.findall(text):
        assert path.startswith(MADE) or (ROOT / path).exists(), path
