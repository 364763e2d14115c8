"""One annotator as a process of its own: asks, looks, submits or skips, until told to stop.

Everything it was told and everything it sent is in its journal, one JSON object a line,
which the test reads afterwards: an annotator's memory does not depend on the server's.
A server that is away is asked again until it answers, as a person would do it, with the
same file in hand.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import requests
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, write_nifti

GRID = Grid((14, 12, 10), np.diag([-12.0, 12.0, 15.0, 1.0]))
"""Of every CT of the test."""
GONE = (OSError, http.client.HTTPException)
"""What a client sees of a server that was killed; `requests` raises a kind of OSError."""
STRATEGIES = ("attention", "attention", "first", "random")
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """Who an annotator is and how it works.

    Attributes
    ----------
    client_id
        ``None`` sends none.
    folder
        Holds its files, ``journal.jsonl`` among them.
    stop
        Once this file is there, the annotator puts its work down and ends.
    pause_s
        Mean time over one case, seconds.
    """

    url: str
    client_id: str | None
    folder: str
    stop: str
    seed: int
    pause_s: float


class RefusedError(Exception):
    """The server answered with something else than 200."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Annotator:
    """See :class:`Work`."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.folder = Path(work.folder)
        self.client = MONAILabelClient(work.url, tmpdir=work.folder, client_id=work.client_id)
        self.rng = random.Random(work.seed)
        self.done: list[str] = []
        self.files = 0

    def run(self) -> None:
        """Work until told to stop."""
        with open(self.folder / "journal.jsonl", "a", encoding="utf-8") as self.journal:
            while not self.stopped():
                self.case()

    def stopped(self) -> bool:
        return Path(self.work.stop).exists()

    def note(self, kind: str, **more: Any) -> None:
        self.journal.write(json.dumps({"kind": kind, **more}) + "\n")
        self.journal.flush()

    def insist(self, action: Callable[[], T]) -> T:
        """Do it, again after every time that the server was gone."""
        while True:
            try:
                return action()
            except GONE:
                time.sleep(self.rng.uniform(0.1, 0.5))
            except MONAILabelClientException as error:
                status, body = re.match(  # type: ignore[union-attr]
                    r"Status: (\d+); Response: (.*)", str(error.msg), re.DOTALL
                ).groups()
                raise RefusedError(int(status), body) from error

    # --- what annotators do -----------------------------------------------------------

    def case(self) -> None:
        """One case, from asking for it to letting go of it."""
        strategy = self.rng.choice(STRATEGIES)
        reply = self.insist(lambda: self.client.next_sample(strategy, {}))
        at = time.time()
        if not reply:
            self.note("nothing", at=at)
            self.again()
            self.pause(1.0)
            return
        volume = str(reply["id"])
        self.note(
            "given",
            at=at,
            volume=volume,
            lease=reply["lease"],
            expires_at=reply["expires_at"],
            anonymous=reply["anonymous"],
            strategy=strategy,
        )
        self.look(volume, reply["checksum"])
        late = self.rng.random() < 0.05
        self.pause(1.0 if not late else 0.2)
        if late:  # lunch; the lease runs out meanwhile
            while time.time() < reply["expires_at"] and not self.stopped():
                time.sleep(0.2)
        deed = self.rng.random()
        if deed < 0.08:
            self.blunder(volume)
        if deed < 0.5:
            self.submit(volume)
        else:  # skipped: let go of here, and for the server by asking again
            self.note("skipped", at=time.time(), volume=volume)
        if self.rng.random() < 0.15:
            self.again()

    def again(self) -> None:
        """Correct an earlier case of one's own once more, without a lease."""
        if self.done:
            self.submit(self.rng.choice(self.done))

    def pause(self, share: float) -> None:
        end = time.monotonic() + self.rng.uniform(0.2, 1.8) * self.work.pause_s * share
        while time.monotonic() < end and not self.stopped():
            time.sleep(0.05)

    def look(self, volume: str, checksum: str) -> None:
        """The image itself: it must be the one that was announced."""

        def get() -> requests.Response:
            url = f"{self.work.url}/datastore/image?image={volume}"
            return requests.get(url, timeout=60)

        answer = self.insist(get)
        found = f"SHA256:{hashlib.sha256(answer.content).hexdigest()}"
        good = answer.status_code == 200 and found == checksum
        self.note("image", volume=volume, status=answer.status_code, good=good, checksum=found)

    def submit(self, volume: str) -> None:
        """A label that nobody else has drawn; sent until the server has answered."""
        array = np.random.default_rng(self.rng.getrandbits(63)).integers(0, 10, GRID.shape)
        label = array.astype(np.uint8)
        self.files += 1
        path = write_nifti(self.folder / f"label_{self.files:05d}.nii.gz", label, GRID)
        params = {"label_info": [{"name": n, "idx": i} for n, i in ORGAN_IDS.items()]}
        sent = {"volume": volume, "digest": digest(label), "at": time.time()}
        # Noted first: from here on the server may have it, whatever happens to the reply.
        self.note("sent", **sent)
        try:
            reply = self.insist(
                lambda: self.client.save_label(volume, str(path), "final", dict(params))
            )
        except RefusedError as refusal:
            self.note("refused", **sent, status=refusal.status, reason=refusal.body)
            return
        self.note("kept", **sent, answered_at=time.time(), reply=reply)
        self.done.append(volume)

    def blunder(self, volume: str) -> None:
        """Something that is no label of this volume, which the server must not take."""
        self.files += 1
        path = self.folder / f"label_{self.files:05d}.nii.gz"
        if self.rng.random() < 0.5:
            path.write_bytes(self.rng.randbytes(500))
        else:
            # Half a voxel beside the CT's grid: no part of it, however it is cropped.
            aside = GRID.affine.copy()
            aside[:3, 3] += GRID.affine[:3, 0] / 2
            beside = Grid((3, 3, 3), aside)
            write_nifti(path, np.ones(beside.shape, dtype=np.uint8), beside)
        try:
            self.insist(lambda: self.client.save_label(volume, str(path), "final", {}))
        except RefusedError as refusal:
            self.note("blunder", volume=volume, status=refusal.status, reason=refusal.body)
        else:
            self.note("blunder", volume=volume, status=200, reason="")


def digest(array: np.ndarray) -> str:
    """Of a label map's voxels, however its file is packed."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint8).tobytes()).hexdigest()


def arguments(work: Work) -> list[str]:
    """Command line that runs this annotator."""
    return [sys.executable, "-m", "tests.e2e.annotator", json.dumps(dataclasses.asdict(work))]


if __name__ == "__main__":
    Annotator(Work(**json.loads(sys.argv[1]))).run()
