"""Weights of networks: what is typed, what holds, what is refused."""

import pytest

from atlas8k.core.errors import SettingsError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.weighting import EXAMPLE, Weights


def test_the_more_particular_holds_in_whatever_order_it_stands():
    for text in ("nnunet=3,nnunet:pancreas=2", "nnunet:pancreas=2, nnunet = 3 "):
        weights = Weights.parse(text)
        assert weights.of("nnunet", "pancreas") == 2
        assert weights.of("nnunet", "liver") == 3
        assert weights.of("unet", "pancreas") == 1


def test_the_same_weights_are_the_same_text():
    first, second = Weights.parse("b=1,a:liver=0.50"), Weights.parse(" a:liver=.5,b=1.0,")
    assert str(first) == str(second) == "a:liver=0.5,b=1"
    assert Weights.parse(str(first)).entries == first.entries
    assert str(Weights.parse(EXAMPLE)) == "nnunet:pancreas=2,swin_unetr=0.5,unet=1"
    assert str(Weights.parse("")) == ""


def test_a_matrix_has_a_row_a_network_and_a_column_an_organ():
    found = Weights.parse("b=2,b:aorta=0").matrix(["a", "b"])
    assert found.shape == (2, len(ORGAN_NAMES))
    assert found[0].tolist() == [1] * 9
    assert found[1].tolist() == [0] + [2] * 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unet", "form"),
        ("=2", "form"),
        ("unet:=2", "form"),
        ("unet=two", "number from 0"),
        ("unet=-1", "number from 0"),
        ("unet=nan", "number from 0"),
        ("unet=inf", "number from 0"),
        ("unet:live=2", "did you mean liver"),
        ("unet=1,unet=2", "given twice"),
        ("unet:liver=1,unet:liver=1", "unet:liver is given twice"),
    ],
)
def test_what_is_no_weight_is_refused(text, words):
    with pytest.raises(SettingsError, match=words):
        Weights.parse(text)


def test_weights_must_fit_the_networks():
    Weights.parse("unet=0").check(["unet", "nnunet"])
    with pytest.raises(SettingsError, match="no network unet2; served are unet, nnunet"):
        Weights.parse("unet2=0").check(["unet", "nnunet"])
    with pytest.raises(SettingsError, match="counts 0 for pancreas"):
        Weights.parse("unet=0,nnunet:pancreas=0").check(["unet", "nnunet"])
