"""An export as a process of its own, which a server starts: it works while the server answers.

The first line of its input is the job, JSON. It writes a line of JSON for what it has done, and
ends when its input does: with the server, however that ends. What is done stays, as of every
export that is stopped.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from atlas8k.campaign.status import status
from atlas8k.core.errors import Atlas8kError
from atlas8k.services import duplicates
from atlas8k.services.exporting.datasheet_page import write_datasheet
from atlas8k.services.exporting.export import ExportSettings, export
from atlas8k.services.exporting.selection import select, still_going_on
from atlas8k.services.exporting.splits import (
    SHARES,
    SplitRule,
    assign,
    not_compared_text,
    read_patients_of,
)
from atlas8k.services.labels.service import LabelService

EVERY_S = 0.5
NICE = 5


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Write an export and its datasheet; return how many volumes and organs it has.

    Parameters
    ----------
    job
        ``studies``, ``ledger`` and ``out``: paths; ``settings`` of an
        :class:`~atlas8k.services.exporting.export.ExportSettings`; ``patients``: path of a table
        of whose a volume is, or none.
    """
    settings = ExportSettings(**job["settings"])
    out = Path(job["out"])
    with closing(LabelService.open(job["studies"], Path(job["ledger"]))) as service:
        parts, uncompared = None, set[str]()
        if settings.split:
            table = job.get("patients")
            patients = read_patients_of(Path(table) if table else None)
            parts = assign(service.ledger, SplitRule(SHARES, patients=patients))
            uncompared = duplicates.uncompared(service.folder)
        chosen = select(
            service.folder, settings.require, settings.organs, settings.rename, settings.purpose,
            settings.maps, parts, uncompared,
        )  # fmt: skip
        total = len(service.folder.now().ids())
        done = export(
            service.folder, out, settings, chosen, progress=lambda items: _watched(items, total)
        )
        ledger = service.ledger
        now = status(ledger, model_version=ledger.last_model_version(), names=False, running=())
        write_datasheet(out, status=now, readings=ledger.agreements(), title=settings.name)
        ledger.note("export", kind="dataset", volumes=done.volumes)
        unfinished = still_going_on(ledger)
    return {
        "volumes": done.volumes,
        "organs": done.organs.total(),
        "unfinished": unfinished,
        "not_compared": not_compared_text(done.not_compared, done.volumes),
        "left_out": dict(done.left_out.most_common(5)),
    }


def _watched(items: Iterable[Any], total: int) -> Iterator[Any]:
    said = 0.0
    for number, item in enumerate(items):
        if time.monotonic() > said + EVERY_S:
            said = time.monotonic()
            _say(done=number, total=total)
        yield item


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Do the job that the first line of the input names."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    os.nice(NICE)
    try:
        found = run(job)
    except (Atlas8kError, OSError) as error:
        _say(error=str(error))
        os._exit(1)
    _say(finished=found)
    os._exit(0)  # its input is still being waited for


if __name__ == "__main__":
    main()
