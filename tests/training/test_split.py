"""Who is trained on and who is measured on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from atlas8k.core.errors import SettingsError
from atlas8k.training.data import TrainingCase
from atlas8k.training.generated import PhantomTrainingCase
from atlas8k.training.split import held_out, patient_of, read_patients, split


def case(name: str, patient: str = "", **more) -> TrainingCase:
    return TrainingCase(name, Path("ct"), Path("label"), patient=patient, **more)


def test_a_case_stays_on_its_side_when_others_arrive():
    cases = [PhantomTrainingCase(seed, None) for seed in range(200)]
    training, validation = split(cases[:100], 0.2)
    more_training, more_validation = split(cases, 0.2)
    assert set(validation) <= set(more_validation)
    assert set(training) <= set(more_training)
    assert 0.1 < len(more_validation) / 200 < 0.3
    assert split(cases[:4], 0.9) == (cases[:4], [])
    assert split(cases[:100], 0) == (cases[:100], [])


def test_pseudo_labels_alone_are_on_no_side_to_measure_on():
    names = [f"v{i}" for i in range(60)]
    people = [case(name) for name in names[:30]]
    guessed = [case(name, known_organs=(), pseudo_organs=("liver",)) for name in names[30:]]
    training, kept_out = split([*people, *guessed], 0.2)
    assert kept_out
    assert all(one.known_organs for one in kept_out)
    assert {one.name for one in training} == {n for n in names if not held_out(n, 0.2)}


def test_volumes_of_one_patient_are_on_one_side():
    cases = [case(f"v{i}", f"p{i // 3}") for i in range(90)]
    training, kept_out = split(cases, 0.3)
    assert 0 < len(kept_out) < 90
    assert len(training) + len(kept_out) == 90
    assert not {one.patient for one in training} & {one.patient for one in kept_out}
    apart = {f"p{i}" for i in range(30) if held_out(f"p{i}", 0.3)}
    assert {one.patient for one in kept_out} == apart
    # A pseudo label of a patient who is measured on is not learned from either.
    guessed = dataclasses.replace(kept_out[0], name="g", known_organs=(), pseudo_organs=("liver",))
    assert split([*cases, guessed], 0.3)[0] == training


def test_who_was_trained_on_is_not_held_out_under_a_new_volume_or_name():
    apart = next(f"p{i}" for i in range(100) if held_out(f"p{i}", 0.3))
    cases = [case(f"v{i}", f"q{i}") for i in range(20)]
    both = [case("old", apart), case("new", apart)]
    assert both[0] in split([*cases, *both], 0.3)[1]
    for seen in ({apart}, {"old"}):  # networks from before patients were known have seen names
        training, kept_out = split([*cases, *both], 0.3, seen)
        assert set(both) <= set(training)
        assert kept_out


def test_nobody_said_whose_it_is():
    assert patient_of(case("v1")) == "v1"
    assert patient_of(case("v1", "p")) == "p"


def test_patients_are_read_from_a_table(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("volume;Patient ID;phase\na.nii.gz;p1;portal\nb;p1;arterial\nc;;\n")
    assert read_patients(path) == {"a": "p1", "b": "p1"}
    for text, reason in (
        ("volume,age\na,3\n", "name it 'patient'"),
        ("age,patient\n", "no column for the case|no case"),
        ("volume,patient\na,1\na,2\n", "a is already in row 2"),
    ):
        path.write_text(text)
        with pytest.raises(SettingsError, match=reason) as error:
            read_patients(path)
        assert "patients.csv" in str(error.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_patients(tmp_path / "none.csv")
