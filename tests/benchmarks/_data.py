"""Where real CTs and bodies are, beside the project; benchmarks say it where they are not."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ATLAS8K_DATA", ROOT.parent / "shared" / "data"))
BODIES = DATA / "totalsegmentator-bodies"
EXAMPLE = DATA / "totalsegmentator-example"
