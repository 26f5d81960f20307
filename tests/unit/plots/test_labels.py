"""Long names are shortened in the middle, and different names stay different."""

from __future__ import annotations

import pytest

from tuner.plots.labels import explain_short, shorten_middle, shorten_names, spaced_labels

MODULE = "my_company.segmentation.models.unet_family:"


def test_short_names_stay_and_long_ones_keep_both_ends() -> None:
    assert shorten_middle("unet", 16) == "unet"
    assert shorten_middle("a" * 16, 16) == "a" * 16
    short = shorten_middle("segmentation_models_pytorch:UnetPlusPlus", 16)
    assert short == "segmenta…lusPlus" and len(short) == 16


@pytest.mark.parametrize(
    "names",
    [
        [f"{MODULE}resnet{layers}_unet_with_attention" for layers in (18, 34, 50, 101)],
        [f"{'a' * 20}{at}{'b' * 20}" for at in range(12)],
        [f"{'a' * 20}{'b' * 20}{at}{'c' * 40}" for at in range(3)] + [f"{'a' * 20}{'x' * 20}1{'c' * 40}"],
        ["x" * number for number in range(1, 40)],
    ],
)
@pytest.mark.parametrize("longest", [8, 16, 48])
def test_different_names_have_different_short_forms(names: list[str], longest: int) -> None:
    short = shorten_names(names, longest)
    assert list(short) == names and len(set(short.values())) == len(names)
    assert all(len(form) <= longest for form in short.values())


def test_names_that_differ_in_the_middle_show_where() -> None:
    short = shorten_names([f"{MODULE}resnet{layers}_unet_with_attention" for layers in (34, 50)], 18)
    assert [("34" in form, "50" in form) for form in short.values()] == [(True, False), (False, True)]


def test_what_was_shortened_is_explained() -> None:
    assert explain_short(shorten_names(["unet", "fcn"])) == ""
    long = [f"{MODULE}net_{at}" for at in range(8)]
    told = explain_short(shorten_names(long))
    assert f"is {long[0]};" in told and told.endswith("2 more are short")


def test_labels_are_spaced() -> None:
    assert spaced_labels(5, 24) == {0, 1, 2, 3, 4}
    assert len(spaced_labels(100, 24)) == 20 and 0 in spaced_labels(100, 24)
