"""A bundle is written whole or not at all, and refuses to be used when it differs from what was exported."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.made_studies import make_best, make_bundle, make_run

from tuner.errors import BundleError, FilesError, PartError, StudyError
from tuner.export import bundle as bundles
from tuner.export.bundle import export_bundle, load_model, read_recipe, verify_bundle
from tuner.export.card import make_card
from tuner.export.manifest import REQUIRED_FILES
from tuner.goal import minimize
from tuner.recipe import Recipe, use
from tuner.tasks import find_task
from tuner.train.checkpoint import load_weights
from tuner.train.trainer import build_model

EXTRAS = (
    "predictions.png",
    "strip.png",
    "curves.png",
    "quality.png",
    "explanation.png",
    "confusion.csv",
    "details.json",
)


@pytest.fixture
def bundle(tmp_path: Path, toy_recipe: Recipe) -> Path:
    return make_bundle(toy_recipe, tmp_path / "best")


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_bundle_holds_what_was_promised_and_nothing_lies_beside_it(bundle: Path) -> None:
    assert {file.name for file in bundle.iterdir()} == {*REQUIRED_FILES, *EXTRAS, "bundle.json"}
    assert [file.name for file in bundle.parent.iterdir()] == ["best"]


def test_its_parts_say_what_was_trained_and_how_good_it_is(bundle: Path, toy_recipe: Recipe) -> None:
    best = make_best(toy_recipe)
    assert read_recipe(bundle) == toy_recipe
    assert json.loads((bundle / "metrics.json").read_text()) == best.to_json()
    with (bundle / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], float(row["val_iou"])) for row in rows] == [("1", 0.4), ("2", 0.6)]


def test_the_card_tells_a_stranger_everything(bundle: Path) -> None:
    card = (bundle / "card.md").read_text(encoding="utf-8")
    for told in (
        "unet(k=4, dropout=0.2) for shapes",
        "Trial 2 of the study `made`",
        "best of 10 trials (2 failed) and beat 7",
        "| lr | 0.00123 |",
        "| iou | 0.7000 | 0.6000 |",
        "19 training and 11 validation images",
        "at epoch 2 of 2",
        "32 x 32 pixels",
        "tuner predict",
        "commit abc+",
    ):
        assert told in card, told
    assert "rehearsal" not in card


def test_the_card_of_a_rehearsal_says_so(tmp_path: Path, toy_recipe: Recipe) -> None:
    best = make_best(toy_recipe)
    rehearsed = replace(best, study=replace(best.study, rehearsal=True))
    assert "This is a rehearsal" in make_card(rehearsed)


def test_a_winner_by_the_least_is_expected_to_have_a_little_more(toy_recipe: Recipe) -> None:
    best = make_best(toy_recipe)
    assert "expect a little less on new images" in make_card(best)
    least = replace(best, study=replace(best.study, goal=minimize("loss")))
    assert "expect a little more on new images" in make_card(least)


def test_the_example_in_the_card_works(bundle: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (bundle / "card.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0]
    shutil.copy(next((photos / "images").iterdir()), bundle.parent / "photo.jpg")
    monkeypatch.chdir(bundle.parent)
    names: dict[str, object] = {}
    exec(code, names)
    mask = names["mask"]
    assert mask.shape == (128, 128) and set(mask.flatten().tolist()) <= {0, 1}  # type: ignore[attr-defined]


def test_the_model_of_a_bundle_is_the_trained_one(tmp_path: Path, toy_recipe: Recipe) -> None:
    run = make_run(toy_recipe, tmp_path / "run")
    export_bundle(make_best(toy_recipe), run, tmp_path / "best", force=False)
    expected = build_model(toy_recipe, find_task("binary")).eval()
    load_weights(expected, run.best)
    model, images = load_model(tmp_path / "best"), torch.randn(2, 3, 32, 32)
    assert not model.training
    with torch.no_grad():
        assert torch.equal(model(images), expected(images))


def test_an_existing_folder_is_refused_without_force(bundle: Path, toy_recipe: Recipe, tmp_path: Path) -> None:
    before = content(bundle)
    with pytest.raises(FilesError, match=r"already exists.*--force"):
        export_bundle(make_best(toy_recipe), make_run(toy_recipe, tmp_path / "run"), bundle, force=False)
    assert content(bundle) == before


def test_force_replaces_a_bundle_whole(bundle: Path, toy_recipe: Recipe, tmp_path: Path) -> None:
    (bundle / "stray.txt").touch()
    run = make_run(replace(toy_recipe, seed=9), tmp_path / "run")
    export_bundle(make_best(toy_recipe), run, bundle, force=True)
    assert not (bundle / "stray.txt").exists()
    assert (bundle / "weights.safetensors").read_bytes() == run.best.read_bytes()
    assert sorted(file.name for file in bundle.parent.iterdir()) == ["best", "run"]
    verify_bundle(bundle)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_force_never_replaces_what_is_no_bundle(tmp_path: Path, toy_recipe: Recipe, kind: str) -> None:
    precious = tmp_path / "precious"
    if kind == "folder":
        precious.mkdir()
        (precious / "thesis.tex").write_text("years")
    else:
        precious.write_text("years")
    run = make_run(toy_recipe, tmp_path / "run")
    with pytest.raises(FilesError, match="is not a bundle; --force replaces only bundles"):
        export_bundle(make_best(toy_recipe), run, precious, force=True)
    kept = precious / "thesis.tex" if kind == "folder" else precious
    assert kept.read_text() == "years"


def test_force_fills_an_empty_folder(tmp_path: Path, toy_recipe: Recipe) -> None:
    (tmp_path / "best").mkdir()
    export_bundle(make_best(toy_recipe), make_run(toy_recipe, tmp_path / "run"), tmp_path / "best", force=True)
    verify_bundle(tmp_path / "best")


def test_the_folder_one_stands_in_can_be_named(
    bundle: Path, toy_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(toy_recipe, tmp_path / "run")
    monkeypatch.chdir(bundle)
    export_bundle(make_best(toy_recipe), run, Path(), force=True)
    verify_bundle(bundle)


def test_parents_are_made(tmp_path: Path, toy_recipe: Recipe) -> None:
    export_bundle(make_best(toy_recipe), make_run(toy_recipe, tmp_path / "run"), tmp_path / "a" / "b", force=False)
    verify_bundle(tmp_path / "a" / "b")


def test_weights_of_another_host_are_asked_for_there(tmp_path: Path, toy_recipe: Recipe) -> None:
    run = make_run(toy_recipe, tmp_path / "run")
    run.best.unlink()
    with pytest.raises(StudyError, match=r"weights of trial 2 are not at .* Export on the host that trained it"):
        export_bundle(make_best(toy_recipe), run, tmp_path / "best", force=False)
    assert not (tmp_path / "best").exists()


def test_an_export_that_dies_in_the_middle_leaves_the_old_bundle(
    bundle: Path, toy_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(bundle)

    def dies(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "make_card", dies)
    with pytest.raises(FilesError, match="the disk is full"):
        export_bundle(make_best(toy_recipe), make_run(toy_recipe, tmp_path / "run"), bundle, force=True)
    assert content(bundle) == before
    assert sorted(file.name for file in bundle.parent.iterdir()) == ["best", "run"]


def test_a_rename_that_fails_puts_the_old_bundle_back(
    bundle: Path, toy_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = content(bundle), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if (self / "bundle.json").read_bytes() != before["bundle.json"]:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    changed = make_best(toy_recipe, beaten=1)
    with pytest.raises(FilesError, match="no permission"):
        export_bundle(changed, make_run(toy_recipe, tmp_path / "run"), bundle, force=True)
    assert content(bundle) == before


def test_a_bundle_without_pictures_is_whole(tmp_path: Path, toy_recipe: Recipe) -> None:
    run = make_run(toy_recipe, tmp_path / "run")
    for file in run.pictures:
        file.unlink()
    verify_bundle(export_bundle(make_best(toy_recipe), run, tmp_path / "best", force=False))


@pytest.mark.parametrize("name", [*REQUIRED_FILES, *EXTRAS])
def test_every_missing_or_altered_file_is_named(bundle: Path, name: str) -> None:
    altered = (bundle / name).read_bytes()[:-1] + b"?"
    (bundle / name).write_bytes(altered)
    with pytest.raises(BundleError, match=rf"altered: {name}"):
        load_model(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"missing: {name}"):
        load_model(bundle)


def test_all_that_is_wrong_is_told_at_once(bundle: Path) -> None:
    (bundle / "recipe.json").unlink()
    (bundle / "card.md").unlink()
    (bundle / "history.csv").write_text("")
    with pytest.raises(BundleError, match=r"\(missing: recipe.json, card.md; altered: history.csv\)"):
        verify_bundle(bundle)


def test_a_folder_that_is_no_bundle_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle .*nowhere"):
        verify_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle.json"):
        verify_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1, "files": 3}', "null"])
def test_a_manifest_that_cannot_be_read_was_altered(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match=r"bundle.json was altered"):
        verify_bundle(bundle)


def test_a_bundle_of_a_later_version_is_told_so(bundle: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**manifest, "version": 2}))
    with pytest.raises(BundleError, match="a bundle of version 2; this tuner reads version 1"):
        verify_bundle(bundle)


def test_a_users_own_model_is_loaded_where_its_module_is(
    tmp_path: Path, toy_recipe: Recipe, own_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(toy_recipe, model=use("mine.nets:net"))
    folder = make_bundle(own, tmp_path / "best")
    assert load_model(folder, trust=True)(torch.zeros(1, 3, 8, 8)).shape == (1, 1, 8, 8)
    shutil.rmtree(own_models)
    for name in ("mine", "mine.nets"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(PartError, match=r"there is no module 'mine.nets'. Looked in "):
        load_model(folder, trust=True)


@pytest.mark.parametrize("task", ["multiclass", "classification"])
def test_a_bundle_alone_knows_its_classes(
    task: str, tmp_path: Path, label_recipe: Recipe, class_recipe: Recipe, photos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipe = label_recipe if task == "multiclass" else class_recipe
    folder = make_bundle(recipe, tmp_path / "best")
    own = task == "classification"
    assert read_recipe(folder, trust=own).classes == recipe.classes
    outputs = (len(recipe.classes), *((32, 32) if task == "multiclass" else ()))
    assert load_model(folder, trust=own)(torch.zeros(1, 3, 32, 32)).shape == (1, *outputs)
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert f"in the order of their numbers: {', '.join(recipe.classes)}." in card
    shutil.copy(next((photos / "images").iterdir()), tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    answer = names["labels" if task == "multiclass" else "shares"]
    assert answer.shape == ((128, 128) if task == "multiclass" else (6,))  # type: ignore[attr-defined]


def test_a_bundle_of_the_first_recipes_is_loaded(bundle: Path, toy_recipe: Recipe) -> None:
    """A recipe that the first version wrote lacks what has come since."""
    recipe = json.loads((bundle / "recipe.json").read_text())
    for name in ("stages", "weights", "copies", "validate_every", "classes"):
        del recipe[name]
    (bundle / "recipe.json").write_text(json.dumps({**recipe, "version": 1}))
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["files"]["recipe.json"] = bundles.hash_file(bundle / "recipe.json")
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    assert read_recipe(bundle) == toy_recipe
    assert load_model(bundle)(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
