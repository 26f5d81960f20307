"""The smallest real case of each part of the five reports, on small files in the datasets' official layouts.

Each test names the ids of docs/reports.md whose promises it looks at. The commands are those of the page, with
--shrink and --shorten, and tables are cut to the rows that a test needs. ImageNet weights are random ones in the
format and the place of the real ones.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.command_line import home_url, rows
from helpers.dataset_layouts import MAKERS, make_weizmann
from PIL import Image
from test_reports import IDS
from torch import Tensor

import tuner
from tuner.api.study import Study, TrialResult
from tuner.cli import main
from tuner.models import MODELS
from tuner.recipe import Part, Recipe
from tuner.registry import build

pytestmark = [pytest.mark.usefixtures("forked_workers"), pytest.mark.xdist_group("report_rows")]
ROOT = Path(__file__).parents[2]
SLOW = pytest.mark.slow


class Workplace:
    """A user's folder: datasets under data/, weights where torch keeps them, studies in runs/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = folder / "torch" / "hub" / "checkpoints"
        self.hub.mkdir(parents=True)
        self.given: dict[str, dict[str, Tensor]] = {}

    def type(self, command: str) -> str:
        """Return what a command prints; it must end well."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("TUNER_DATA", str(self.folder / "data"))
            patch.setenv("TORCH_HOME", str(self.folder / "torch"))
            patch.setenv("OMP_NUM_THREADS", "1")
            patch.delenv("TUNER_STORAGE", raising=False)
            done = CliRunner().invoke(main, command.split())
        assert done.exit_code == 0, done.output
        return done.stdout

    def add_data(self, name: str, number: int) -> None:
        make = {**MAKERS, "weizmann_horse": make_weizmann}[name]
        make(self.folder / "data" / name, number)

    def add_weights(self, name: str, prefix: str = "") -> None:
        """Put random weights of the model's encoder where its ImageNet weights are looked for."""
        torch.manual_seed(5)
        model: Any = build("model", MODELS, Part(name), 3, 2)
        self.given[name] = model.encoder.state_dict()
        named = {prefix + key: value for key, value in self.given[name].items()}
        torch.save(named, self.hub / model.pretrained.file)

    def cut_table(self, name: str, *keep: int, **losses: str) -> str:
        """Return a published table with some of its rows, as a file of the user's; `losses`: `row0="dice"`."""
        head, *all_rows = (ROOT / "studies" / f"{name}.toml").read_text().split("[[rows]]")
        kept = [all_rows[at] for at in keep]
        for at, row in enumerate(kept):
            if loss := losses.get(f"row{at}"):
                kept[at] = row.replace('loss = "bce"', f'loss = "{loss}"')
        (self.folder / f"{name}.toml").write_text("[[rows]]".join([head, *kept]))
        return f"{name}.toml"

    def study(self, name: str) -> Study:
        return tuner.load_study(name, home=self.folder / "runs")

    def trials(self, name: str) -> list[TrialResult]:
        """Return the trials of a study, which all ended well."""
        trials = self.study(name).trials
        assert trials and {trial.state for trial in trials} == {"COMPLETE"}
        return trials

    def epochs(self, study: str, number: int) -> list[dict[str, float]]:
        """Return the metrics of each epoch of a trial, and its learning rate."""
        query = (
            "SELECT e.metrics, e.lr FROM tuner_epoch e JOIN trials t ON t.trial_id = e.trial_id JOIN studies s "
            "ON s.study_id = t.study_id WHERE s.study_name = :study AND t.number = :number ORDER BY e.epoch"
        )
        found = rows(home_url(self.folder / "runs"), query, study=study, number=number)
        return [{**json.loads(row.metrics), "lr": row.lr} for row in found]

    def weights(self, study: str, number: int) -> dict[str, Tensor]:
        """Return the best weights of a trial."""
        from safetensors.torch import load_file

        folder = f"{study}-{self.study(study)._info.key}"
        (path,) = (self.folder / "runs" / "trials" / folder / f"{number:05d}").glob("**/best.safetensors")
        return load_file(path)

    def is_unchanged(self, study: str, number: int, model: str, layers: slice = slice(None)) -> bool:
        """Return whether the encoder of a trial's best weights, or some of its layers, is as it began."""
        found, names = self.weights(study, number), list(self.given[model])
        order = list(dict.fromkeys(name.split(".")[0] for name in names))[layers]
        return all(
            torch.equal(found[f"encoder.{name}"], self.given[model][name])
            for name in names
            if name.split(".")[0] in order
        )


@pytest.fixture(scope="module")
def make_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Workplace]]:
    """Return what makes a workplace and deletes the one before, whose models of full size take up to a gigabyte.

    So each workplace is used by tests that follow each other.
    """
    made: list[Workplace] = []

    def make(name: str) -> Workplace:
        while made:
            shutil.rmtree(made.pop().folder)
        made.append(Workplace(tmp_path_factory.mktemp(name)))
        return made[-1]

    yield make
    while made:
        shutil.rmtree(made.pop().folder)


def stage_epochs(recipe: Recipe | None) -> list[int]:
    assert recipe is not None
    return [stage.epochs for stage in recipe.stages]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert np.asarray(picture).std() > 0, "nothing is drawn"
        return picture.size


def in_range(metrics: dict[str, float], *names: str) -> None:
    assert all(0 <= metrics[name] <= 1 for name in names), metrics


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- A. SportVGG; a U-Net of width k on horses ---

HORSES = "weizmann_unet-shrink16-shorten50"


@pytest.fixture(scope="module")
def horses(make_place: Callable[[str], Workplace]) -> Workplace:
    """Three rows of Table 1, one with each loss, of 15 horses: the first is the best one, exported."""
    place = make_place("horses")
    place.add_data("weizmann_horse", 15)
    table = place.cut_table("weizmann_unet", 0, 7, 10, row2="dice")
    place.type(f"run --table {table} --shrink 16 --shorten 50")
    place.type("best --export best")
    return place


@pytest.mark.slow
def test_a4_a5_a6_a_unet_of_width_k_learns_with_each_loss_and_keeps_its_best_epoch(horses: Workplace) -> None:
    trials = horses.trials(HORSES)
    assert [trial.recipe.loss.name for trial in trials if trial.recipe] == ["bce", "focal", "dice"]
    for trial in trials:
        assert trial.recipe and trial.recipe.optimizer.name == "adam" and trial.recipe.schedule.name == "plateau"
        k = trial.recipe.model.args["k"]
        weights, curve = horses.weights(HORSES, trial.number), horses.epochs(HORSES, trial.number)
        widths = [len(weights[f"{block}.0.weight"]) for block in ("down1", "down2", "down3", "bottleneck")]
        assert widths == [k, 2 * k, 4 * k, 8 * k] and len(weights["head.weight"]) == 1
        assert trial.value == max(epoch["val_iou"] for epoch in curve)
        assert curve[trial.best_epoch - 1]["val_iou"] == trial.value


def test_a7_six_metrics_of_both_splits_in_every_epoch(horses: Workplace) -> None:
    six = ("loss", "iou", "accuracy", "precision", "recall", "f1")
    for epoch in horses.epochs(HORSES, 0):
        assert epoch["train_loss"] > 0 and epoch["val_loss"] > 0
        in_range(epoch, *(f"{split}_{name}" for split in ("train", "val") for name in six[1:]), "val_batch_iou")
        assert "train_batch_iou" not in epoch


def test_a8_pictures_of_every_epoch_of_examples_and_of_curves(horses: Workplace) -> None:
    (run,) = {path.parent for path in horses.folder.glob(f"runs/trials/{HORSES}-*/00000/**/strip.png")}
    wide, high = size(run / "strip.png")  # the image, its truth and two epochs
    assert wide > 3 * high / 2
    assert size(run / "predictions.png") > (0, 0) and size(horses.folder / "best" / "curves.png") > (0, 0)


def test_a9_maps_of_the_named_features_of_random_validation_images(horses: Workplace) -> None:
    horses.type("explain best --sample 2 --layers x1,x6 --out maps")
    panels = sorted((horses.folder / "maps").glob("*_explanation.png"))
    assert len(panels) == 2 and all(size(panel)[0] > 0 for panel in panels)
    assert {f"x{at}" for at in range(1, 7)} <= set(horses.type("explain best --list-layers").split())


def test_a10_the_table_is_set_beside_ours_on_exactly_a_fifth(horses: Workplace) -> None:
    found = json.loads(horses.type("table weizmann_unet.toml --json"))
    assert [row["state"] for row in found["rows"]] == ["done"] * 3
    assert found["rows"][0]["published"]["val_iou"] == 0.7964
    for row in found["rows"]:
        in_range(row["ours"], "val_iou", "val_batch_iou")
    assert json.loads(horses.type("evaluate best --split val --json"))["images"] == 3


@pytest.fixture(scope="module")
def sports(make_place: Callable[[str], Workplace]) -> Workplace:
    """The row of two stages, of six sports."""
    place = make_place("sports")
    place.add_data("sports100", 2)
    place.add_weights("sport_vgg", "features.")
    place.type(f"run --table {place.cut_table('sport_vgg', 1)} --shrink 7 --shorten 25")
    return place


@SLOW
def test_a1_a2_vgg_stays_still_below_its_last_ten_layers(sports: Workplace) -> None:
    study = "sport_vgg-table-shrink7-shorten25"
    (trial,) = sports.trials(study)
    assert stage_epochs(trial.recipe) == [1, 1] and trial.recipe and trial.recipe.augment.name == "none"
    assert len(sports.weights(study, 0)["reduce.weight"].shape) == 4
    assert sports.is_unchanged(study, 0, "sport_vgg", slice(-10))
    first, second = (epoch["lr"] for epoch in sports.epochs(study, 0))
    assert first == pytest.approx(1e-4) and second <= 1e-5
    (row,) = json.loads(sports.type("table sport_vgg.toml --json"))["rows"]
    in_range(row["ours"], "train_accuracy", "val_accuracy", "test_accuracy")


@SLOW
def test_a3_maps_of_the_one_by_one_convolution_of_random_images(sports: Workplace) -> None:
    sports.type("best --export best")
    sports.type("explain best --sample 3 --out maps")
    assert len(list((sports.folder / "maps").glob("*_explanation.png"))) == 3
    assert sports.type("explain best --list-layers").split()[0] == "reduce"


# --- B. MobileNet encoders on skin lesions ---


@pytest.fixture(scope="module")
def lesions(make_place: Callable[[str], Workplace]) -> Workplace:
    """ImageNet's MobileNetV2, and twelve lesions, eight to learn from."""
    place = make_place("lesions")
    place.add_data("isic2016", 8)
    place.add_weights("mobilenet_unet")
    return place


@pytest.mark.slow
def test_b3_b4_b7_b8_two_stages_with_copies_and_means_over_the_test_images(lesions: Workplace) -> None:
    study = "isic_augmented-shrink8-shorten100"
    lesions.type(f"run --table {lesions.cut_table('isic_augmented', 1)} --shrink 8 --shorten 100")
    (trial,) = lesions.trials(study)
    assert trial.recipe and trial.recipe.copies == 1 and trial.recipe.augment.name == "lesion"
    assert trial.recipe.model.name == "mobilenet_segnet_attention_atrous" and stage_epochs(trial.recipe) == [1, 1]
    frozen, free = trial.recipe.stages
    assert frozen.frozen == ("encoder",) and frozen.lr == 1e-3
    assert (free.frozen, free.lr, free.encoder_lr) == ((), 1e-4, 1e-6)
    assert any(name.startswith("decoder.0.levels.") for name in lesions.weights(study, 0))
    assert lesions.is_unchanged(study, 0, "mobilenet_unet") == (trial.best_epoch == 1)
    (row,) = json.loads(lesions.type("table isic_augmented.toml --json"))["rows"]
    in_range(row["ours"], "test_image_iou", "test_image_dice")


@SLOW
def test_b5_the_rate_of_the_encoder_from_a_frozen_run_then_for_longer(lesions: Workplace) -> None:
    size = "--shrink 8 --shorten 20"
    lesions.type(f"run --table isic_start {size}")
    assert lesions.is_unchanged("isic_start-shrink8-shorten20", 0, "mobilenet_unet")
    lesions.type(f"run --space isic_encoder_lr --trials 1 {size}")
    study = "isic_encoder_lr-shrink8-shorten20"
    (trial,) = lesions.trials(study)
    assert stage_epochs(trial.recipe) == [1] and 1e-6 <= trial.params["encoder_lr"] <= 1e-4
    lesions.type(f"extend --study {study} --epochs 2")
    first, second = lesions.epochs(f"{study}-2-epochs", 0)
    assert first == lesions.epochs(study, 0)[0] and second != first


@SLOW
def test_b1_b2_b6_decoders_above_a_frozen_encoder_with_losses_that_are_never_negative(lesions: Workplace) -> None:
    table = lesions.cut_table("isic_frozen", 0, 0, 1, 1, row0="iou", row1="dice", row2="iou_dice")
    lesions.type(f"run --table {table} --shrink 8 --shorten 50")
    study = "isic_frozen-shrink8-shorten50"
    trials = lesions.trials(study)
    assert [trial.recipe.loss.name for trial in trials if trial.recipe] == ["iou", "dice", "mix", "bce"]
    for trial in trials:
        assert lesions.is_unchanged(study, trial.number, "mobilenet_unet")
        curve = lesions.epochs(study, trial.number)
        assert min(epoch[name] for epoch in curve for name in ("train_loss", "val_loss")) >= 0
    found = lesions.weights(study, 2)
    gates = [name for name in found if name.startswith("decoder.gates.") and name.endswith("weight")]
    assert gates and all(len(found[name]) == 1 for name in gates)


# --- C. Two U-Nets on pets, binary ---

PETS = "pet_lr-shrink16-shorten5"


@pytest.fixture(scope="module")
def pets(make_place: Callable[[str], Workplace]) -> Workplace:
    """A trial for each of the two models, the best one exported."""
    place = make_place("pets")
    place.add_data("oxford_pet", 10)
    place.add_weights("resnet34_unet")
    place.type("run --space pet_lr --trials 1 --each model --no-pruning --shrink 16 --shorten 5")
    place.type("best --export best")
    return place


@SLOW
def test_c1_c2_c3_c5_as_many_trials_of_each_model_none_pruned(pets: Workplace) -> None:
    trials = pets.trials(PETS)
    assert sorted(trial.params["model"] for trial in trials) == ["resnet34_unet", "unet_transposed"]
    for trial in trials:
        assert trial.recipe and trial.recipe.loss.name == "dice_bce" and trial.recipe.optimizer.name == "adam"
        assert trial.recipe.epochs == len(pets.epochs(PETS, trial.number)) == 2
        transposed = [value for value in pets.weights(PETS, trial.number).values() if value.shape[2:] == (2, 2)]
        assert len(transposed) >= 4 and 1e-5 <= trial.params["lr"] <= 1e-2


@SLOW
def test_c4_the_best_of_each_goes_on(pets: Workplace) -> None:
    pets.type(f"extend --study {PETS} --top 1 --by model --epochs 3")
    assert len(pets.trials(f"{PETS}-3-epochs")) == 2
    for trial in pets.trials(f"{PETS}-3-epochs"):
        curve = pets.epochs(f"{PETS}-3-epochs", trial.number)
        (before,) = (other for other in pets.trials(PETS) if other.params == trial.params)
        assert len(curve) == 3 and curve[:2] == pets.epochs(PETS, before.number)


@SLOW
def test_c6_the_augmentation_shifts_colours_by_ten_of_255(pets: Workplace) -> None:
    for trial in pets.trials(PETS):
        assert trial.recipe and trial.recipe.augment == Part("pet", {"rgb": 10 / 255})


@SLOW
def test_c7_c8_the_best_is_scored_and_drawn_on_the_test_split(pets: Workplace) -> None:
    pets.type("evaluate best --out tested --sample 2")
    tested = pets.folder / "tested"
    assert size(tested / "examples.png") > (0, 0) and size(tested / "sample.png") > (0, 0)
    scores = [float(row["score"]) for row in read_csv(tested / "images.csv")]
    assert len(scores) == 5 and all(0 <= score <= 1 for score in scores)
    in_range(json.loads((tested / "metrics.json").read_text())["metrics"], "dice", "batch_dice")
    photo = next((pets.folder / "data" / "oxford_pet" / "images").glob("*.jpg"))
    pets.type(f"predict best {photo} --out masks")
    assert size(pets.folder / "masks" / f"{photo.stem}_mask.png") == size(photo)


# --- D. FCN and SegFormer, three ways to start ---

STRATEGIES = "pet_strategies-table-shrink2-shorten15"


@pytest.fixture(scope="module")
def strategies(make_place: Callable[[str], Workplace]) -> Workplace:
    """The three rows of the FCN, the best one exported."""
    place = make_place("strategies")
    place.add_data("oxford_pet", 10)
    place.add_weights("fcn_resnet50")
    place.type("run --table pet_strategies --shrink 2 --shorten 15")
    place.type("best --export best")
    return place


@SLOW
def test_d1_d4_three_ways_to_begin(strategies: Workplace) -> None:
    scratch, tuned, frozen = strategies.trials(STRATEGIES)
    assert not strategies.is_unchanged(STRATEGIES, scratch.number, "fcn_resnet50")
    assert not strategies.is_unchanged(STRATEGIES, tuned.number, "fcn_resnet50")
    assert strategies.is_unchanged(STRATEGIES, frozen.number, "fcn_resnet50")
    for trial in (scratch, tuned, frozen):
        assert trial.recipe and trial.recipe.optimizer == Part("adamw", {"lr": 1e-3, "amsgrad": True})
        assert [("val_miou" in epoch) for epoch in strategies.epochs(STRATEGIES, trial.number)] == [False, True]
        assert len(strategies.weights(STRATEGIES, trial.number)["head.4.weight"]) == 3


@SLOW
def test_d5_d6_the_score_over_the_data_set_and_the_pictures_of_the_strategies(strategies: Workplace) -> None:
    strategies.type("compare --by start --out strategies.html")
    assert "fine-tuned" in (strategies.folder / "strategies.html").read_text()
    strategies.type("evaluate best --out tested")
    tested = strategies.folder / "tested"
    assert size(tested / "quality.png") > (0, 0)
    found = json.loads((tested / "metrics.json").read_text())
    table = np.array([[int(v) for v in list(row.values())[1:]] for row in read_csv(tested / "confusion.csv")])
    right, union = table.diagonal(), table.sum(0) + table.sum(1) - table.diagonal()
    assert found["metrics"]["miou"] == pytest.approx((right / np.maximum(union, 1))[union > 0].mean())


@SLOW
def test_d7_the_places_are_set_beside_the_published_ones(strategies: Workplace) -> None:
    found = json.loads(strategies.type("table pet_strategies --json"))["rows"]
    assert [row["place"] for row in found] == [2, 1, 3]
    assert sorted(row["our_place"] for row in found) == [1, 2, 3]


@SLOW
def test_d2_d3_the_encoder_of_streets_is_carried_to_pets(make_place: Callable[[str], Workplace]) -> None:
    place, end = make_place("transfer"), "shrink2-shorten15"
    place.add_data("oxford_pet", 8)
    place.add_data("cityscapes", 4)
    place.type("run --space segformer_cityscapes --trials 1 --shrink 2 --shorten 15")
    place.type("run --table segformer_transfer --shrink 2 --shorten 15")
    study = f"segformer_transfer-table-{end}"
    scratch, tuned, half, frozen = (place.weights(study, trial.number) for trial in place.trials(study))
    streets = place.weights(f"segformer_cityscapes-{end}", 0)
    carried = [name for name in streets if name.startswith("encoder.")]
    assert carried and all(torch.equal(frozen[name], streets[name]) for name in carried)
    for one in (scratch, tuned, half):
        assert not all(torch.equal(one[name], streets[name]) for name in carried)
    assert [trial.params["lr"] for trial in place.trials(study)] == [1e-3, 1e-3, 5e-4, 1e-3]


# --- E. From a baseline to a ResNet U-Net on scenes, and instances ---

SCENES = "scene_models-table-shrink8-shorten64"


@pytest.fixture(scope="module")
def scenes(make_place: Callable[[str], Workplace]) -> Workplace:
    """The six rows of the table, on ten scenes, the best one exported."""
    place = make_place("scenes")
    place.add_data("scene", 10)
    place.add_weights("resnet18_unet")
    place.type("run --table scene_models --shrink 8 --shorten 64")
    place.type("best --export best")
    return place


@pytest.mark.slow
def test_e2_e4_e5_e6_e7_e9_each_model_learns_as_in_the_report(scenes: Workplace) -> None:
    trials = {trial.params["model"]: trial for trial in scenes.trials(SCENES)}
    lengths = {name: stage_epochs(trial.recipe) for name, trial in trials.items()}
    assert lengths == {
        "pixel_frequency": [1], "basic_cnn": [2], "unet": [2], "resnet18_frozen": [1],
        "resnet18": [1, 2], "resnet18_overfit": [1, 2],
    }  # fmt: skip
    for trial in trials.values():
        assert trial.recipe and trial.recipe.loss == Part("cross_entropy", {"weights": "frequency"})
        in_range(dict(trial.metrics), "val_miou", "val_map", "val_accuracy")
    assert scenes.is_unchanged(SCENES, trials["resnet18_frozen"].number, "resnet18_unet")
    plain = trials["resnet18_overfit"]
    assert plain.recipe and plain.recipe.augment.name == "none"
    assert not [name for name in scenes.weights(SCENES, plain.number) if "running_mean" in name]
    counted = scenes.weights(SCENES, trials["pixel_frequency"].number)
    assert float(counted["seen"].max()) == 8  # of ten, two are held out; some pixels are ignored
    torch.testing.assert_close(counted["counts"].sum(0, keepdim=True), counted["seen"])


@SLOW
def test_e3_e8_confusion_scores_of_each_class_and_losses_in_one_plot(scenes: Workplace) -> None:
    found = json.loads(scenes.type("evaluate best --split val --json --confusion confusion.csv"))
    classes = [next(iter(row.values())) for row in read_csv(scenes.folder / "confusion.csv")]
    assert classes == found["classes"] == ["sky", "ground", "disc", "box"]
    in_range(found["metrics"], "map", *(name for name in found["metrics"] if name.startswith("iou:")))
    scenes.type("compare --by model --metric loss --out models.html")
    page = (scenes.folder / "models.html").read_text()
    assert all(name in page for name in ("basic_cnn", "unet", "resnet18"))


@SLOW
def test_e1_both_settings_of_crops_and_flips(scenes: Workplace) -> None:
    scenes.type(f"run --table {scenes.cut_table('scene_augmentation', 0, 1)} --shrink 8 --shorten 64")
    trials = scenes.trials("scene_augmentation-shrink8-shorten64")
    args = [dict(trial.recipe.augment.args) for trial in trials if trial.recipe]
    assert args == [{"crop": 0.25, "flip": 0.5}, {"crop": 0.0625, "flip": 0.25}]


@SLOW
def test_e10_e11_pedestrians_by_each_method(make_place: Callable[[str], Workplace]) -> None:
    place, study = make_place("pedestrians"), "instances_penn_fudan-shrink4-shorten20"
    place.add_data("penn_fudan", 6)
    place.type("run --table instances_penn_fudan --shrink 4 --shorten 20")
    trials = place.trials(study)
    methods = [trial.recipe.model.name for trial in trials if trial.recipe]
    assert methods == ["deep_watershed", "deep_watershed", "watershed_cascade", "mask_rcnn"]
    assert len(stage_epochs(trials[2].recipe)) == 3
    for trial in trials:
        in_range(dict(trial.metrics), "val_ap", "val_ap50", "val_pq")


# --- the page ---


def test_every_id_of_the_page_is_named_by_a_test_here() -> None:
    tests = [name for name in globals() if name.startswith("test_")]
    named = [id.upper() for name in tests for id in re.findall(r"_([a-e]\d+)(?=_)", name)]
    assert sorted(named) == sorted(IDS)
