"""``atlas8k labels``: import public labels, and see the history of submitted ones."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas8k.cli.open_studies import acting_holder, folder_only, label_service_of, local_time
from atlas8k.cli.options import (
    AsJson,
    Commands,
    FolderOfStudies,
    LedgerFile,
    Maps,
    Orientation,
    Studies,
)
from atlas8k.cli.terminal_tables import decimals, print_table
from atlas8k.core.errors import Atlas8kError

if TYPE_CHECKING:
    from atlas8k.services.labels.reviews import Revision
    from atlas8k.store import OrganChange

labels = Commands(
    help="Labels of a studies folder: public ones imported, the history of submitted ones."
)

Case = Annotated[str, typer.Argument(help="the CT's name, without .nii.gz")]
As = Annotated[str, typer.Option("--as", help="who you are, for the records")]


@labels.command()
def datasets(maps: Maps = None) -> None:
    """List the datasets that `labels import` knows, with licence and the organs each labels."""
    from atlas8k.core.structures import ORGANS
    from atlas8k.labels.datasets import known_datasets

    rows = []
    for dataset in known_datasets(maps).values():
        remarks = {
            "kidneys are told apart": dataset.kidneys_together,
            f"a version of {dataset.family}": dataset.family,
            "organs differ from case to case": dataset.per_case,
        }
        organs = ", ".join(dataset.organs) or "none of the nine"
        rows.append(
            {
                "dataset": dataset.name,
                "licence": dataset.licence,
                "also": ", ".join(dataset.also),
                "organs": "all nine" if len(dataset.organs) == len(ORGANS) else organs,
                "remarks": "; ".join(remark for remark, holds in remarks.items() if holds),
            }
        )
    print_table(rows, left=["dataset"], fold=["also", "organs", "remarks"])


@labels.command("import")
def import_(
    dataset: Annotated[str, typer.Argument(help="its name, see `atlas8k labels datasets`")],
    folder: Annotated[
        Path, typer.Argument(help="its label files, in the layout it is downloaded in")
    ],
    studies: FolderOfStudies,
    ledger: LedgerFile = None,
    maps: Maps = None,
    match: Annotated[
        list[str] | None,
        typer.Option(help=r"REGEX=NAME: the CT of the label files whose name fits; \1 is a group"),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="only CTs whose names start so, by the rest of their names")
    ] = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="import although organs are impossible or names contradict"),
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="read and check all files, keep nothing")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="files to read at a time")] = 1,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.45,
            help="voxels that the dataset's headers are known to be off the CTs' at a corner; "
            "snapped, and noted for each file",
        ),
    ] = 0.05,
    orientation: Orientation = None,
    report: Annotated[
        Path | None, typer.Option(help="CSV of every file: organs, reasons, what to look at")
    ] = None,
) -> None:
    r"""Import a public dataset's labels for the CTs they belong to.

    An organ the dataset labels becomes public: it replaces the pseudo
    label and does not count in the ranking. One it labels and has no
    voxels of is absent; one it does not label is unknown. The server may
    run meanwhile; a file that was imported before and has not changed is
    skipped.

    A label file is matched to a CT by its name, or that of its folder: the
    same name; the dataset's own way (label0001 and PANCREAS_0001); the same
    name without words such as label, seg, img, volume and 0000
    (segmentation-0 and volume-0). It must lie on the CT's grid, turned or
    cropped at most; a file whose header lacks the direction of its axes
    must cover the whole CT.

    All files are checked before the first is imported: where organs come
    out that no patient has (a pancreas of the aorta's shape), or names in a
    header contradict the dataset's numbers, nothing is imported. Of a
    dataset with several versions (TotalSegmentator, FLARE) the files decide
    which it is; where they do not, name it.

    A dataset of another name is read as its dataset.json describes it
    (nnU-Net's raw sets). Of a folder that `atlas8k export` has made, the
    manifest says where each organ comes from: a prediction stays one.

    The exit code is 1 where a file was refused, or none had a CT.
    """
    from tqdm import tqdm

    from atlas8k.cli.labels_import import (
        Importer,
        bring_in_all,
        chosen_version,
        plan,
        versions_of,
        write_report,
    )
    from atlas8k.labels.datasets import DatasetMapError
    from atlas8k.labels.matching import (
        Matcher,
        find_label_files,
        is_packed_release,
        parse_rule,
        why_no_labels,
    )
    from atlas8k.services.exporting.bring_in import is_export
    from atlas8k.services.studies.names import IMAGE_SUFFIXES
    from atlas8k.services.studies.scan import scan_images

    folder_only(
        studies, "public labels are matched with the file names of a folder of CTs: give that"
    )
    if not folder.is_dir():
        raise Atlas8kError(f"{folder}: {why_no_labels(folder)}")
    if is_packed_release(studies):
        raise Atlas8kError(f"{studies}: is a packed file; unpack it, and give its folder of CTs")
    if not studies.is_dir():
        raise Atlas8kError(f"{studies}: there is no such folder of CTs")
    if is_export(folder):
        bring_in_all(dataset, folder, studies, ledger, match or [], prefix, dry_run)
        return
    versions = versions_of(dataset, folder, maps)
    if not any(version.organs for version in versions):
        raise DatasetMapError(versions[0].name, "labels none of the nine organs; nothing to import")
    try:
        rules = [parse_rule(text) for text in match or []]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--match") from error
    if report is not None and not report.absolute().parent.is_dir():
        raise Atlas8kError(f"{report}: its folder does not exist; make it first")
    label_files = find_label_files(folder)
    if not label_files.files:
        raise Atlas8kError(f"{folder}: {why_no_labels(folder)}")
    volumes = scan_images(studies, IMAGE_SUFFIXES).files
    own_rules = [rule for version in versions for rule in version.match]
    matcher = Matcher(volumes, prefix=prefix, rules=rules, own_rules=own_rules)
    planned = plan(label_files, folder, matcher)
    entry = chosen_version(dataset, folder, versions, planned, maps, force=force, jobs=jobs)
    importer = Importer(studies, ledger, entry, dry_run, tolerance, orientation)
    outcomes = []
    # The bar shows in a terminal only; files are listed above it.
    with tqdm(total=len(planned), desc=entry.name, unit="file", disable=None) as bar:
        for outcome in importer.run(planned, jobs):
            outcomes.append(outcome)
            tqdm.write(outcome.line(dry_run=dry_run))
            bar.update()
    counts = Counter(outcome.result for outcome in outcomes)
    summary = [
        f"{counts['imported']} {'to import' if dry_run else 'imported'}",
        f"{counts['unchanged']} unchanged",
        f"{counts['skipped']} skipped (no CT)",
        f"{counts['refused']} refused",
    ]
    if label_files.images:
        summary.append(f"{len(label_files.images)} images passed over")
    warned = Counter(rule for outcome in outcomes for rule in outcome.rules)
    typer.echo(f"{entry.name}: {', '.join(summary)}")
    if warned:
        rules_text = ", ".join(f"{rule} {count}" for rule, count in warned.most_common())
        typer.echo(f"Look at (files): {rules_text}")
    if report is not None:
        write_report(report, outcomes)
        typer.echo(f"Report: {report}")
    if counts["refused"] or not counts["imported"] + counts["unchanged"]:
        raise typer.Exit(1)


def summary(organs: Mapping[str, OrganChange]) -> str:
    """Return a submission's changes as a short text: changed organs with their DSC first."""
    from atlas8k.store.records import OLDER_RULE

    changed = [
        f"{organ} {'absent' if change.state == 'absent' else f'{change.dsc or 0:.3f}'}"
        for organ, change in organs.items()
        if change.state in ("revised", "absent")
    ]
    confirmed = sum(change.state == "confirmed" for change in organs.values())
    parts = [", ".join(changed) or "nothing changed"]
    if confirmed:
        older = any(change.note == OLDER_RULE for change in organs.values())
        parts.append(f"{confirmed} confirmed{' (older rule)' if older else ''}")
    questions = [
        organ for organ, change in organs.items() if change.state == "not_assessed" and change.note
    ]
    if questions:
        parts.append(f"asked about {', '.join(questions)}")
    return "; ".join(parts) if organs else ""


@labels.command()
def history(
    case: Case, studies: Studies = ".", ledger: LedgerFile = None, as_json: AsJson = False
) -> None:
    """List every submission of a case: who, when, minutes, changes; * is the current one.

    Figures are the DSC of an organ before and after.
    """
    with label_service_of(studies, ledger) as label_service:
        revisions = label_service.reviews.history(case)
        sources = label_service.ledger.sources(case)
    if as_json:
        submissions = [
            {
                **dataclasses.asdict(revision.submission),
                "in_force": revision.is_current,
                "organs": {o: c._asdict() for o, c in revision.organs.items()},
            }
            for revision in revisions
        ]
        organs = {o: source._asdict() for o, source in sources.items()}
        document = {"case": case, "history": submissions, "organs": organs}
        typer.echo(json.dumps(document, indent=1))
        return
    if not revisions:
        typer.echo(f"{case}: nobody has submitted it yet")
    print_table(
        [
            {
                "": "*" if revision.is_current else "",
                "no.": revision.submission.id,
                "who": revision.submission.holder,
                "when": local_time(revision.submission.submitted_at),
                "min": decimals(revision.submission.minutes, 0),
                "what it is": _kind(revision),
                "organs": summary(revision.organs),
            }
            for revision in revisions
        ],
        left=["", "who", "when"],
        fold=["what it is", "organs"],
        key="who",
    )
    for organ, source in sources.items():
        disputed = "DISPUTED" if source.disputed else ""
        words = (source.source, source.state, source.dataset, disputed)
        typer.echo(f"{organ}: {' '.join(word for word in words if word)}")


def _kind(revision: Revision) -> str:
    submission = revision.submission
    if submission.restored is not None:
        return f"{submission.restored} restored"
    flags = {
        "second reading": submission.purpose == "double_read",
        "of a gold case": submission.purpose == "gold",
        "reviewer's": submission.purpose == "review",
        "late": submission.late,
        "conflict": submission.conflict,
        "file is gone": not revision.file,
    }
    return ", ".join(flag for flag, holds in flags.items() if holds)


@labels.command()
def restore(
    case: Case,
    number: Annotated[int, typer.Argument(help="of the submission, see `labels history`")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    name: As = "",
) -> None:
    """Make an earlier submission current again; nothing is lost. The server may run."""
    with label_service_of(studies, ledger) as label_service:
        restored = label_service.reviews.restore(case, number, acting_holder(name))
    typer.echo(f"{case}: submission {number} is current, as number {restored.id}")


@labels.command()
def fix(
    case: Case,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    accept: Annotated[
        list[int] | None, typer.Option("--accept", help="number of a proposal; repeatable")
    ] = None,
    name: As = "",
    as_json: AsJson = False,
) -> None:
    """Propose repairs of a case's draft label by anatomical rules; nothing is changed unasked.

    Islands are taken off, a piece inside another organ given to it, swapped kidneys exchanged, a
    broken aorta drawn through. What --accept names becomes a revision of yours; it is no review
    of the case, which stays in the list.
    """
    from atlas8k.services.labels import repairing

    with label_service_of(studies, ledger) as label_service:
        found = repairing.proposals(label_service, case)
        receipt = None
        if accept:
            receipt = repairing.accept(label_service, case, accept, acting_holder(name))
    if as_json:
        document = {
            "case": case,
            "proposals": [repair.as_dict() for repair in found],
            "accepted": sorted({*accept}) if accept else [],
            "submission": receipt and receipt.submission.id,
            "in_force": receipt and receipt.is_current,
        }
        typer.echo(json.dumps(document, indent=1))
        return
    if receipt is not None:
        state = "current" if receipt.is_current else "for a reviewer: somebody has revised it"
        typer.echo(f"{case}: submission {receipt.submission.id}, {state}; {receipt.recorded}")
        return
    if not found:
        typer.echo(f"{case}: no rule proposes a repair")
        return
    for number, repair in enumerate(found, start=1):
        typer.echo(f"{number}  {repair.text}")
    typer.echo(f"to take one: atlas8k labels fix {case} --studies {studies} --accept 1")


@labels.command()
def reopen(
    case: Case,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    note: Annotated[str, typer.Option(help="comes with the case")] = "",
    to: Annotated[str, typer.Option(help="only to this holder, as `labels history` names it")] = "",
    name: As = "",
) -> None:
    """Give a submitted case out again, before all others, with its last revision on it."""
    with label_service_of(studies, ledger) as label_service:
        label_service.reviews.reopen(
            case, to=to or None, note=note, reviewer=acting_holder(name).key
        )
    typer.echo(f"{case}: open again, for {to or 'the next sample'}")


@labels.command()
def rejected(studies: Studies = ".", ledger: LedgerFile = None, as_json: AsJson = False) -> None:
    """List labels that were in labels/final and failed the checks, each with the reason."""
    with label_service_of(studies, ledger) as label_service:
        waiting = label_service.existing.waiting()
    if as_json:
        typer.echo(json.dumps([{**dataclasses.asdict(o), "path": str(o.path)} for o in waiting]))
        return
    for label in waiting:
        typer.echo(
            f"{label.volume}  set aside {local_time(label.at)}  {label.path}\n    {label.reason}"
        )
    typer.echo(f"{len(waiting)} labels were set aside" if waiting else "no label was set aside")


@labels.command()
def accept(
    case: Case,
    studies: Studies = ".",
    ledger: LedgerFile = None,
    values: Annotated[
        str | None,
        typer.Option("--map", help="what its values are: 1=liver,2=kidney_left,3=none"),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="take it although its organs look impossible, networks made it, or its "
            "header is less than a voxel off the CT's",
        ),
    ] = False,
) -> None:
    """Make a label that was set aside current; the file itself stays where it is."""
    from atlas8k.services.labels.existing_labels import Reading, parse_values

    try:
        mapping = None if values is None else parse_values(values.split(","))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from error
    with label_service_of(studies, ledger) as label_service:
        submission = label_service.existing.accept(case, Reading(mapping, force))
        organs = label_service.ledger.changes(submission.id)
    states = [
        f"{organ} {change.state}"
        for organ, change in organs.items()
        if change.state != "not_assessed"
    ]
    typer.echo(f"{case}: accepted as submission {submission.id} ({', '.join(states)})")
