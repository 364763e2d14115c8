"""What happens to the labels of a studies folder: files and ledger together, one volume at a time.

Every way a label comes in (a submission, a pseudo label, a public one) and every decision
about one ends here, so that ``labels/final`` and ``labels/original`` are what the ledger
says. Nothing here imports MONAI Label: commands use it as the server does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.ledger import Ledger, OrganSource, locate
from atlas8k.server.studies.folder import StudiesFolder
from atlas8k.volume import Grid

PSEUDO, PUBLIC = "pseudo", "public"


class Desk:
    """The labels of one studies folder.

    Parameters
    ----------
    folder
        The studies folder.
    ledger
        Its ledger.
    review_percent, double_read_percent
        Share of the submissions that a reviewer looks at, of the volumes that two people
        read; chosen by a hash, so that it is the same wherever it is asked.
    """

    def __init__(
        self,
        folder: StudiesFolder,
        ledger: Ledger,
        *,
        review_percent: float = 0.0,
        double_read_percent: float = 0.0,
    ) -> None:
        self.folder, self.ledger = folder, ledger
        self.review_percent, self.double_read_percent = review_percent, double_read_percent

    @classmethod
    def open(cls, studies: Path, ledger: Path | None = None) -> Desk:
        """Of a folder, for a command: without watching it.

        Raises
        ------
        StudiesFolderError, LedgerFileError
            Folder or ledger cannot be used.
        """
        path = ledger or locate(str(studies))
        return cls(StudiesFolder(studies, state_dir=path.parent, watch=False), Ledger(path))

    def keep_pseudo(
        self, volume: str, array: npt.NDArray[np.uint8], grid: Grid, info: Mapping[str, Any]
    ) -> None:
        """Keep what the networks predict; organs nothing better is known of change with it.

        Parameters
        ----------
        array
            ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the CT's own grid `grid`.
        info
            ``model_signature`` and what else is to be kept beside it, JSON-able.
        """
        self.folder.store_label(volume, PSEUDO, array, grid, info)
        self.reassemble(volume)

    def keep_public(
        self,
        volume: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        organs: Mapping[str, OrganSource],
    ) -> None:
        """Keep a public label; its organs become public ones.

        Organs of an earlier public label of this volume stay unless named again.

        Parameters
        ----------
        array
            ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the CT's own grid `grid`.
        organs
            What the dataset says of each organ: source ``public`` with state ``present``
            or ``absent``, and ``unknown`` (source ``pseudo``) where it says nothing.

        Raises
        ------
        NotFoundError
            No such image.
        GridMismatchError
            `array` or `grid` is not the CT's.
        """
        self.folder.store_label(volume, PUBLIC, array, grid, {})
        self.ledger.set_sources(volume, organs)
        self.reassemble(volume)

    def reassemble(self, volume: str) -> dict[str, OrganSource]:
        """Put the assembled label in force as the start label; where each organ comes from."""
        return self.ledger.sources(volume)
