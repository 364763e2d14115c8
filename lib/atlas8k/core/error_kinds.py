"""What may be wrong with a predicted label, as an annotator notes it.

The kinds are those of Figure 5 of Qu et al., NeurIPS 2023, and others.
"""

from __future__ import annotations

ERROR_KINDS = {
    "cavity": "cavity left out",
    "enlarged": "enlarged part left out",
    "leakage": "leaks into something else",
    "sides": "left and right swapped",
    "protocol": "drawn by another protocol",
    "other": "other",
}
"""By the key that is kept with a submission, in words."""
