"""A local Orthanc with phantoms in it, and the server on top; Ctrl-C ends both.

    make start-dicom            # or: python sample-datasets/start_dicom.py --port 8001

Orthanc takes nobody from outside this machine. Everything lies in ``sample-datasets/dicom``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from local_orthanc import Orthanc, missing

HERE = Path(__file__).resolve().parent
APP = HERE.parent / "apps" / "atlas8k"
END_S = 15.0


def main(
    port: Annotated[int, typer.Option(help="of the server")] = 8000,
    host: Annotated[str, typer.Option(help="the server listens on this address")] = "127.0.0.1",
    folder: Annotated[Path, typer.Option(help="for Orthanc, ledger and labels")] = HERE / "dicom",
    count: Annotated[int, typer.Option(min=1, help="phantoms to have in the archive")] = 3,
    app: Annotated[Path, typer.Option(help="app folder")] = APP,
    conf: Annotated[
        list[str] | None, typer.Option(help="a setting of the app as key=value, may be repeated")
    ] = None,
) -> None:
    """Start Orthanc with sample series and the server over it."""
    wanting = missing()
    if wanting:
        typer.echo(
            f"missing: {', '.join(wanting)}. Install with `make system-packages`, or\n"
            f"  sudo apt-get install --no-install-recommends {' '.join(wanting)}",
            err=True,
        )
        raise typer.Exit(1)
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is ignored in a shell's background
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), Orthanc(folder / "orthanc") as archive:
        fill(archive, count)
        typer.echo(f"Orthanc: {archive.url}  (DICOMweb: {archive.dicomweb})")
        serve(archive, folder, app, host, port, conf or [])


def fill(archive: Orthanc, count: int) -> None:
    """Have so many phantoms in the archive, each a study of its own."""
    from abdomen_phantom import STANDARD, generate
    from atlas8k.formats.dicom import write_series
    from atlas8k.formats.dicom.write import stable_uid

    there = archive.series()
    for seed in range(count):
        name = f"phantom_{seed:04d}"
        if str(stable_uid("series", name, name)) in there:
            continue
        typer.echo(f"{name} is made and sent to Orthanc")
        ct = generate(seed, STANDARD).ct
        with tempfile.TemporaryDirectory() as place:
            archive.upload(
                write_series(place, ct.array, ct.grid, seed=name, description="CT phantom")
            )


def serve(archive: Orthanc, folder: Path, app: Path, host: str, port: int, conf: list[str]) -> None:
    """Run the server until it ends or is told to."""
    # Beside the archive: Orthanc's port, and with it the URL, is another at every start.
    pairs = [("ledger", str(folder / "state" / "ledger.sqlite"))]
    pairs += [(key, value) for key, _, value in (pair.partition("=") for pair in conf)]
    command = [
        *(sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app)),
        *("--studies", archive.dicomweb, "--host", host, "--port", str(port)),
        *(word for pair in pairs for word in ("--conf", *pair)),
    ]
    # Tasks of the server run `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    server = subprocess.Popen(command, env={**os.environ, "PATH": path}, start_new_session=True)
    try:
        code = server.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, number)  # and the tasks it started
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(END_S)
    if code:
        raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
