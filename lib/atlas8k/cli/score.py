"""``atlas8k score``: what the server's scoring does, from the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from atlas8k.cli.options import MODELS, Conf, Models, existing_studies, settings_of


def score(
    studies: Annotated[
        str, typer.Argument(help="folder of CTs, or DICOMweb URL, as given to the server")
    ],
    models: Models = MODELS,
    conf: Conf = None,
    retry: Annotated[bool, typer.Option(help="also try volumes again that failed before")] = False,
) -> None:
    """Score every volume that has no score under the networks served now."""
    existing_studies(studies)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    from atlas8k.ledger import Progress as Scored
    from atlas8k.server.opening import open_context
    from atlas8k.server.scoring import AttentionScoring
    from atlas8k.settings import Settings

    context = open_context(Settings.from_conf(settings_of(conf)), studies, models)
    context.sync(thorough=True)
    signature = context.signature()
    if retry:
        context.ledger.retry_failures(signature)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
    with Progress(*columns, console=console) as bar:
        before = context.ledger.progress(signature)
        task = bar.add_task("scoring", total=before.total, completed=before.scored + before.failed)

        def report(progress: Scored, seconds_each: float, left: int) -> None:
            done = progress.scored + progress.failed
            text = f"{progress.failed} failed, {3600 / max(seconds_each, 1e-3):.0f} an hour"
            bar.update(task, total=progress.total, completed=done, description=text)

        AttentionScoring(context, report)({}, context.datastore)
    after = context.ledger.progress(context.signature())
    console.print(f"scored {after.scored} of {after.total} under {context.signature()}")
    if after.scored:
        console.print(f"the list: atlas8k rank --studies {studies}", markup=False, soft_wrap=True)
    for name, reason in context.ledger.failures(context.signature()).items():
        console.print(f"failed: {name}: {reason}", highlight=False, soft_wrap=True)
