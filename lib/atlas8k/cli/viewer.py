"""``atlas8k viewer``: install what shows a CT in the browser."""

from __future__ import annotations

import typer

from atlas8k.cli.options import Commands

viewer = Commands(help="The viewer of the page of a case.")


@viewer.callback()
def _viewer() -> None:
    """Keep `install` a command of the group: typer makes one of a single command otherwise."""


@viewer.command()
def install() -> None:
    """Install NiiVue by npm, the version that this release was tested with.

    Node.js is the system's, or that of `pip install atlas8k[viewer]`. Without
    NiiVue the page of a case shows slices drawn by the server.
    """
    from atlas8k.services.viewer import install as install_viewer

    typer.echo(install_viewer())
