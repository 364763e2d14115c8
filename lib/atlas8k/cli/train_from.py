"""Where ``atlas8k train`` finds what is labeled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas8k.training.data import TrainingCase


def labeled_studies(
    folder: str, ledger: Path | None, patients: Path | None, settings: dict[str, Any]
) -> Sequence[TrainingCase]:
    """What is labeled in a studies folder, organ by organ; of several processes one looks.

    Nothing is changed there, as a server would.
    """
    from atlas8k.cli.options import MODELS
    from atlas8k.server.opening import open_context
    from atlas8k.server.training.cases import cases
    from atlas8k.server.training.reading import existing_ledger
    from atlas8k.settings import Settings
    from atlas8k.training import ranks

    found: Sequence[TrainingCase] = ()
    if ranks.first():
        known = Settings(device="cpu", ledger=existing_ledger(folder, ledger), patients=patients)
        context = open_context(known, folder, MODELS)
        try:
            found = cases(context, pseudo=settings.get("pseudo_weight", 0) > 0, read_only=True)
        finally:
            context.datastore.close()
            context.ledger.close()
    return ranks.broadcast(found)


def labeled_files(
    images: Path | None, labels: Path, organs: str, patients: Path | None
) -> list[TrainingCase]:
    """Pairs of a CT and a label map of the same file name."""
    from atlas8k.errors import TrainingError
    from atlas8k.organs import ORGAN_NAMES, find_organ
    from atlas8k.training.data import TrainingCase
    from atlas8k.training.split import read_patients
    from atlas8k.volume import NIFTI_SUFFIXES

    known = []
    for text in filter(None, (part.strip() for part in organs.split(","))):
        organ = find_organ(text)
        if organ is None:
            raise TrainingError(f"--organs: {text!r} is none of {', '.join(ORGAN_NAMES)}")
        known.append(organ.name)
    assert images is not None
    whose = {} if patients is None else read_patients(patients)
    for folder in (images, labels):
        if not folder.is_dir():
            raise TrainingError(f"{folder}: no such folder")
    cases = []
    for ct in sorted(images.iterdir()):
        if ct.name.endswith(NIFTI_SUFFIXES) and (labels / ct.name).is_file():
            name = ct.name.split(".nii")[0]
            organs_of = tuple(known) or ORGAN_NAMES
            whom = whose.get(name, "")
            cases.append(TrainingCase(name, ct, labels / ct.name, organs_of, patient=whom))
    if not cases:
        raise TrainingError(f"{images}: no CT with a label map of the same name in {labels}")
    return cases
