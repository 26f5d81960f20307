"""The source of own parts travels with a bundle, and runs only if it is trusted or the user's own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
from helpers.editable_installs import forgetting_installs, install_editable
from helpers.made_studies import make_best, make_run

from tuner.artifacts.own_code import save_code
from tuner.errors import BundleError
from tuner.export.bundle import export_bundle, open_bundle
from tuner.recipe import Recipe, use
from tuner.registry import own_modules
from tuner.search.trial_attrs import write_recipe

MODEL = "from torch import nn\nfrom {helper} import width\n\ndef net(channels, outputs):\n    return {text}\n"
NET = "nn.Conv2d(channels, outputs, width, padding=width // 2)"


@pytest.fixture
def bundle(own_folder: Path, toy_recipe: Recipe, tmp_path: Path) -> Path:
    """A bundle of an own model that imports another module; both are edited after the training."""
    (own_folder / "travelling.py").write_text(MODEL.format(helper="travelling_helper", text=NET))
    (own_folder / "travelling_helper.py").write_text("width = 3\n")
    recipe = replace(toy_recipe, model=use("travelling:net"))
    run = make_run(recipe, tmp_path / "run")
    best = make_best(recipe)
    best.trial.attrs.setdefault("made_with", {})["code"] = save_code(recipe.own_names, run)
    (own_folder / "travelling_helper.py").write_text("width = 5\n")
    return export_bundle(best, run, tmp_path / "best", force=False)


def test_the_code_of_the_trial_is_in_the_bundle_with_its_hash(bundle: Path) -> None:
    code = sorted(file.name for file in (bundle / "code").iterdir())
    assert code == ["travelling.py", "travelling_helper.py"]
    assert (bundle / "code" / "travelling_helper.py").read_text() == "width = 3\n"
    assert {f"code/{name}" for name in code} < set(json.loads((bundle / "bundle.json").read_text())["files"])
    assert "`travelling:net`" in (bundle / "card.md").read_text()


def test_code_runs_only_with_trust_and_then_it_is_the_bundles(bundle: Path, own_folder: Path) -> None:
    with pytest.raises(BundleError, match="runs code of its own: travelling:net") as error:
        open_bundle(bundle)
    assert f"It is in {bundle / 'code'} and would run with your rights" in str(error.value)
    model = open_bundle(bundle, trust=True).load_model()
    assert model.weight.shape[-1] == 3
    shutil.rmtree(own_folder)
    opened = open_bundle(bundle, trust=True)
    own_modules.search_in({})  # as another bundle does in between
    assert opened.load_model()(torch.zeros(1, 3, 8, 8)).shape[0] == 1
    assert not list(bundle.rglob("__pycache__"))


def test_code_that_is_the_users_own_needs_no_trust(bundle: Path, own_folder: Path) -> None:
    (own_folder / "travelling_helper.py").write_text("width = 3\n")
    own_modules.search_in({own_folder: "beside the space"})
    assert open_bundle(bundle).load_model().weight.shape[-1] == 3


@pytest.mark.parametrize("file", ["travelling.py", "travelling_helper.py", "more.py"])
def test_code_that_was_altered_or_added_is_refused(bundle: Path, file: str) -> None:
    (bundle / "code" / file).write_text("raise RuntimeError")
    with pytest.raises(BundleError, match=f"(altered|added): code/{file}"):
        open_bundle(bundle, trust=True)


def test_a_trial_without_code_takes_it_as_it_is_now_and_says_so(
    own_folder: Path, toy_recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (own_folder / "earlier_model.py").write_text(
        "from torch import nn\n\ndef net(c, o):\n    return nn.Conv2d(c, o, 3)\n"
    )
    recipe = replace(toy_recipe, model=use("earlier_model:net"))
    folder = export_bundle(make_best(recipe), make_run(recipe, tmp_path / "run"), tmp_path / "best", force=False)
    assert [file.name for file in (folder / "code").iterdir()] == ["earlier_model.py"]
    assert "earlier_model.py as it is now: the trial has kept none" in caplog.text


def export_recorded(recipe: Recipe, folder: Path) -> tuple[str, str]:
    """The card and metrics.json of a bundle of a trial that has recorded its packages as a worker does."""
    trial = optuna.create_study().ask()
    data = SimpleNamespace(name="shapes", fingerprint="cafe", train=[], val=[])
    write_recipe(trial, recipe, data, "")  # type: ignore[arg-type]
    best = make_best(recipe)
    best.trial.attrs["made_with"] = trial.user_attrs["made_with"]
    bundle = export_bundle(best, make_run(recipe, folder / "run"), folder / "best", force=False)
    return (bundle / "card.md").read_text(), (bundle / "metrics.json").read_text()


def test_the_card_names_the_packages_of_own_parts_with_their_versions(toy_recipe: Recipe, tmp_path: Path) -> None:
    card, metrics = export_recorded(replace(toy_recipe, metrics=("click:echo",)), tmp_path)
    assert f"Of installed packages: click {version('click')}." in card
    made = json.loads(metrics)["made_with"]
    assert made["packages"] == {"click": version("click")} and "editable" not in made


def test_the_card_names_editable_packages_with_a_hash_of_their_source(toy_recipe: Recipe, tmp_path: Path) -> None:
    source = tmp_path / "my_work"
    (source / "src" / "edmodels").mkdir(parents=True)
    (source / "src" / "edmodels" / "nets.py").write_text(MODEL.format(helper="edmodels", text=NET))
    (source / "src" / "edmodels" / "__init__.py").write_text("width = 3\n")
    with forgetting_installs(tmp_path):
        install_editable(tmp_path / "site", "ed-models", source)
        recipe = replace(toy_recipe, model=use("edmodels.nets:net"), metrics=("click:echo",))
        card, metrics = export_recorded(recipe, tmp_path)
    made = json.loads(metrics)["made_with"]
    assert made["packages"] == {"click": version("click"), "ed-models": "0.3"}
    digest = made["editable"]["ed-models"]
    told = f"click {version('click')}, ed-models 0.3 (editable, hash of its source `{digest}`)."
    assert f"Of installed packages: {told}" in card
    assert "my_work" not in card + metrics


def test_a_bundle_without_own_parts_has_no_code(toy_recipe: Recipe, tmp_path: Path) -> None:
    folder = export_bundle(make_best(toy_recipe), make_run(toy_recipe, tmp_path / "run"), tmp_path / "best", False)
    assert not (folder / "code").exists() and "Not of tuner" not in (folder / "card.md").read_text()
