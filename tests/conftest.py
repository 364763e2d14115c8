"""For all tests."""

from __future__ import annotations

import os

# Tables are as wide as this says; a run of several processes sets it to the terminal's width.
os.environ.pop("COLUMNS", None)
