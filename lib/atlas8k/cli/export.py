"""``atlas8k export``: a campaign's labels as a dataset for others."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from atlas8k.cli.open_studies import existing_ledger, label_service_of
from atlas8k.cli.options import (
    MODELS,
    LedgerFile,
    Maps,
    Patients,
    Studies,
    named,
    organs_in,
)


class LayoutName(StrEnum):
    """How files are named and laid out."""

    ABDOMENATLAS = "abdomenatlas"
    NNUNET = "nnunet"
    FLAT = "flat"
    DICOM = "dicom"


class Bar(StrEnum):
    """What an organ needs to be exported."""

    CONFIRMED = "confirmed"
    REVIEWED = "reviewed"
    ANY = "any"


class For(StrEnum):
    """What a dataset is for."""

    SHARE = "share"
    COMMERCIAL = "commercial"
    INTERNAL = "internal"


class Cts(StrEnum):
    """What becomes of the CTs."""

    NONE = "none"
    LINK = "link"
    COPY = "copy"


def check_archive_export(studies: str, cts: str, rename: str, again: Path | None) -> None:
    """Check that what is asked for can be made of an archive's series.

    Raises
    ------
    SettingsError
        Names would be UIDs, which identify a study; or links would lead to files that go again.
    """
    from atlas8k.core.errors import SettingsError

    if again is None and not rename:
        raise SettingsError(
            f"{studies}: is a DICOM archive, whose series are named by UIDs that lead to a "
            "patient; give --rename BDMAP_ (or another word) to number volumes instead"
        )
    if cts == "link":
        raise SettingsError(
            f"{studies}: is a DICOM archive, whose CTs are fetched when they are needed and go "
            "again: there is nothing to link; give --cts copy, or --cts none"
        )


def export(
    out: Annotated[Path, typer.Argument(help="folder to make; there whole or not at all")],
    studies: Studies = ".",
    ledger: LedgerFile = None,
    layout: Annotated[
        LayoutName,
        typer.Option(
            help="one file an organ, nnU-Net's sets, one map a volume, or DICOM SEG with the CT "
            "as a new series"
        ),
    ] = LayoutName.ABDOMENATLAS,
    require: Annotated[
        Bar,
        typer.Option(
            help="confirmed: organs that a person or a dataset vouches for; reviewed: all of a "
            "label that somebody has submitted; any: predictions, too"
        ),
    ] = Bar.CONFIRMED,
    organs: Annotated[str, typer.Option(help="names with commas between", show_default="all")] = "",
    cts: Annotated[
        Cts,
        typer.Option(help="left out, linked (a bare copy where a header says more), or copied"),
    ] = Cts.NONE,
    name: Annotated[str, typer.Option(help="of the dataset; letters, digits, _")] = "Atlas8k",
    rename: Annotated[
        str, typer.Option(help="name volumes by their number behind this, as BDMAP_00000001")
    ] = "",
    purpose: Annotated[
        For,
        typer.Option(
            help="leave out what sources do not let be shared, or be used so; internal: all"
        ),
    ] = For.SHARE,
    maps: Maps = None,
    split: Annotated[
        str,
        typer.Option(help="training/validation/test, as 70/10/20; paper: as in the paper"),
    ] = "",
    salt: Annotated[str, typer.Option(help="another one splits otherwise")] = "",
    patients: Patients = None,
    test_set: Annotated[
        list[str] | None,
        typer.Option(help="SOURCE=NAME: all of a source is the external test set NAME"),
    ] = None,
    accept_changed: Annotated[
        bool, typer.Option("--accept-changed", help="CTs that changed after their labels, too")
    ] = False,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="write down what it takes to make it again")
    ] = False,
    again: Annotated[
        Path | None, typer.Option(help="an export made with --frozen, to make once more")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="folder of checkpoints, for --frozen", show_default="the server's"),
    ] = None,
) -> None:
    """Export labels that pass a bar as a dataset, with where each organ comes from.

    Beside the labels lie manifest.json and manifest.csv (source, state, annotator's number,
    round, model version, predicted Dice, checks and hash of each organ) and left_out.csv: what
    is not exported, and why.

    An organ that is unknown or not assessed is never background: it has no file, or its volume
    goes to a set of nnU-Net's that does not name it, or is left out.

    Interrupted, or on a full disk, it goes on where it was when it is started again. The server
    may run meanwhile.
    """
    from tqdm import tqdm

    from atlas8k.core.structures import ORGAN_NAMES
    from atlas8k.services import duplicates
    from atlas8k.services.backups.place import Place
    from atlas8k.services.exporting.export import ExportSettings
    from atlas8k.services.exporting.export import export as write
    from atlas8k.services.exporting.frozen import again as plan_again
    from atlas8k.services.exporting.frozen import freeze, releases
    from atlas8k.services.exporting.selection import name_fault, select, still_going_on
    from atlas8k.services.exporting.splits import (
        SHARES,
        SplitRule,
        assign,
        not_compared_text,
        parse_shares,
        read_patients_of,
    )
    from atlas8k.store import is_url

    if layout is LayoutName.DICOM and cts is not Cts.COPY and again is None:
        raise typer.BadParameter(
            "a DICOM SEG object refers to a CT series: give --cts copy with it",
            param_hint="--layout",
        )
    if is_url(studies):
        check_archive_export(studies, cts.value, rename, again)
    for text, option in ((name, "--name"), (rename or "A", "--rename")):
        if fault := name_fault(text):
            raise typer.BadParameter(fault.partition(";")[0], param_hint=option)
    with label_service_of(studies, ledger) as service:
        folder = service.folder
        # The campaign says which structures there are.
        chosen_organs = set(organs_in(organs)) if organs else set(ORGAN_NAMES)
        settings = ExportSettings(
            layout.value, require.value,
            tuple(organ for organ in ORGAN_NAMES if organ in chosen_organs),
            cts.value, name, rename, accept_changed, purpose.value, str(maps) if maps else None,
            " ".join([split, *(test_set or [])]).strip(),
        )  # fmt: skip
        kept = None
        if again is not None:
            settings, chosen, kept = plan_again(folder, again, settings.maps)
            for key, value in releases().items():
                if kept.get(key) != value:
                    typer.echo(f"{key}: {kept.get(key)} then, {value} now; bytes may differ")
        else:
            parts, uncompared = None, set[str]()
            if settings.split:
                rule = SplitRule(
                    SHARES if split in ("", "paper") else parse_shares(split),
                    salt, named(test_set, "--test-set"),
                    read_patients_of(patients) or folder.patients(),
                )  # fmt: skip
                parts = assign(folder.ledger, rule)
                uncompared = duplicates.uncompared(folder)
            chosen = select(
                folder, settings.require, settings.organs, settings.rename,
                settings.purpose, settings.maps, parts, uncompared,
            )  # fmt: skip
            if frozen:
                place = Place.of(str(studies), existing_ledger(studies, ledger), models, MODELS)
                kept = freeze(folder, place.models, settings.maps)
        total = len(folder.now().ids())
        bar = tqdm(chosen, desc="export", unit="volume", total=total, disable=None)
        done = write(folder, out, settings, bar, frozen=kept)
        service.ledger.note("export", kind="dataset", volumes=done.volumes)
        unfinished = still_going_on(service.ledger)
    typer.echo(f"{done.out}: {done.volumes} volumes, {sum(done.organs.values())} organs")
    if unfinished:
        typer.echo(unfinished)
    if unknown := not_compared_text(done.not_compared, done.volumes):
        typer.echo(unknown)
    if done.kept:
        typer.echo(f"{done.kept} of them were there from an unfinished run")
    for what, counts in (("volumes", done.left_out), ("organs", done.organs_left_out)):
        for reason, number in counts.most_common():
            typer.echo(f"left out, {number} {what}: {reason}")
