from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from atlas8k.core.errors import SettingsError
from atlas8k.core.settings import Settings

README = Path(__file__).parents[2] / "apps" / "atlas8k" / "README.md"


def test_strings_become_typed_values() -> None:
    settings = Settings.from_conf({"budget": "0.1", "max_epochs": "3", "models": "/x"})
    assert (settings.budget, settings.max_epochs, settings.models) == (0.1, 3, Path("/x"))


def test_an_empty_value_means_the_default() -> None:
    assert Settings.from_conf({"budget": ""}) == Settings()


def test_an_unknown_key_is_named_with_the_allowed_ones() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_conf({"budgets": "0.1"})
    message = str(error.value)
    assert "--conf budgets" in message
    assert "did you mean budget?" in message
    assert all(key in message for key in Settings.model_fields)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budget", "0"),
        ("budget", "5%"),
        ("max_epochs", "1.5"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("overlap_term", "both"),
        ("lease_minutes", "-1"),
        ("window_overlap", "nan"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(key: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_conf({key: value})
    assert f"--conf {key} {value}" in str(error.value)
    assert Settings.describe(key) in str(error.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().budget = 0.5  # type: ignore[misc]


def test_the_readme_of_the_app_has_the_table_of_every_key() -> None:
    assert Settings.table() in README.read_text(encoding="utf-8")
