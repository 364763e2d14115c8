"""``atlas8k weights rollback``: serve networks that were served before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.options import MODELS, Models
from atlas8k.cli.weights import weights

if TYPE_CHECKING:
    from atlas8k.models.store import ModelStore


@weights.command("rollback")
def rollback(
    signature: Annotated[
        str, typer.Argument(help="set to serve, or 'embedded'; the one before by default")
    ] = "",
    models: Models = MODELS,
    history: Annotated[
        bool, typer.Option("--history", help="only show what was served when")
    ] = False,
) -> None:
    """Serve networks that were served before; a running server takes them at once.

    Scores that were made under them are valid again, and nothing is deleted: what is rolled
    back from can be served again by its signature.
    """
    from atlas8k.models.store import ModelStore

    store = ModelStore(models)
    if history:
        for entry in store.history():
            typer.echo(f"{entry['when'][:19]}Z  {entry['set']}  {entry['note']}")
        served = store.served()
        typer.echo(f"served now: {served.signature}")
        return
    before = store.served().signature
    if signature:
        now = store.serve(_folder(store, signature), f"rolled back from {before}")
    else:
        now = store.rollback(f"rolled back from {before}")
    typer.echo(f"{now.signature} is served, no longer {before}; scores made under it are valid")


def _folder(store: ModelStore, signature: str) -> str:
    """Folder of the set that is meant: by its name, its signature or the start of one.

    Raises
    ------
    CheckpointError
        None, or several.
    """
    from atlas8k.errors import CheckpointError
    from atlas8k.models.sets import EMBEDDED, SET_FILE, open_set

    names = [EMBEDDED, *sorted(p.parent.name for p in store.root.glob(f"[!.]*/{SET_FILE}"))]
    if signature in names:
        return signature
    found = []
    for name in names:
        try:
            # Under other attention settings a set has another signature than its folder's name.
            known = {name, open_set(store.root / name, {}).signature}
        except CheckpointError:
            continue
        if any(one.startswith(signature) for one in known):
            found.append(name)
    if len(found) != 1:
        what = "several begin so" if found else "no such set"
        raise CheckpointError(
            store.root, f"{signature}: {what}; there are {', '.join(found or names)}"
        )
    return found[0]
