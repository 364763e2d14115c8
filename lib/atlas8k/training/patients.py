"""Whose CT is whose, from a table: ``volume,patient``, a row a volume."""

from __future__ import annotations

from pathlib import Path

from atlas8k.errors import EvaluationError, SettingsError
from atlas8k.evaluation.sheets import read_sheet
from atlas8k.organs import normalise

COLUMNS = ("patient", "patient_id", "subject", "subject_id")


def read_patients(path: Path) -> dict[str, str]:
    """Patients by volume.

    Parameters
    ----------
    path
        CSV with a column ``volume`` (or another name of a case) and one of
        :data:`COLUMNS`. A volume without a patient is a patient of its own.

    Raises
    ------
    SettingsError
        The file cannot be read, has no such columns, or names a volume twice.
    """
    try:
        sheet = read_sheet(path)
    except EvaluationError as error:
        raise SettingsError(f"patients: {error}") from error
    names = [normalise(column) for column in sheet.columns]
    found = [name for name in COLUMNS if name in names]
    if not found:
        raise SettingsError(
            f"patients: {path}: has no column for the patient beside {sheet.case_column!r}; "
            "name it 'patient'"
        )
    at = names.index(found[0])
    return {volume: fields[at] for volume, (_, fields) in sheet.rows.items() if fields[at]}
