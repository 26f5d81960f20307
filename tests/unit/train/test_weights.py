"""Weights to begin from: every tensor carried or left is counted, and what does not fit is told."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.local_training import CPU, Trial, assert_same, stop_after
from safetensors.torch import save_file
from torch import Tensor, nn

from tuner.data.cache import CachedDataset
from tuner.errors import FailureKind, PartError, TrialFailed
from tuner.goal import maximize
from tuner.recipe import Part, Recipe, Stage, use
from tuner.space.rehearsal import rehearse
from tuner.tasks import find_task
from tuner.train.memory import MicroBatches
from tuner.train.trainer import Trainer, build_model
from tuner.train.weights import describe_differences, load_initial_weights, match_tensors, read_weights

Tensors = dict[str, Tensor]
ENCODER, MODEL = 14, 16  # tensors of mine.nets:parted; two batch norms have five each
MIOU = maximize("miou")
FILE = "weights"  # how a recipe names them does not matter where the file is given


@pytest.fixture
def parted(label_recipe: Recipe, own_models: Path) -> Recipe:
    return replace(label_recipe, model=use("mine.nets:parted"))


def model_of(recipe: Recipe, classes: int = 0, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    if classes:
        recipe = replace(recipe, classes=tuple(map(str, range(classes))))
    return build_model(recipe, find_task(recipe.task))


def beginning(recipe: Recipe, part: str = "all", name: str = FILE) -> Recipe:
    return replace(recipe, weights=use(name, part=part))


def saved(tensors: Tensors, file: Path) -> Path:
    save_file(dict(tensors), file)
    return file


def equal(model: nn.Module, tensors: Tensors, start: str = "") -> bool:
    return all(torch.equal(v, tensors[k]) for k, v in model.state_dict().items() if k.startswith(start))


def counted(model: nn.Module, recipe: Recipe, file: Path) -> tuple[int, int, int]:
    """(carried, left, fresh), after checking that they add up to the file and to the model."""
    tensors, summary = match_tensors(model, recipe, file)
    told = re.search(r"^(\d+) tensors .*; (\d+) of the file not used, (\d+) of the model", summary)
    assert told is not None
    carried, left, fresh = map(int, told.groups())
    assert carried == len(tensors) and carried + left == len(read_weights(file))
    assert carried + fresh == len(model.state_dict())
    return carried, left, fresh


# --- what is carried ---


def test_all_of_a_file_is_carried_and_told(parted: Recipe, tmp_path: Path) -> None:
    old, new = model_of(parted, seed=1), model_of(parted, seed=2)
    file = saved(old.state_dict(), tmp_path / "old.safetensors")
    said = load_initial_weights(new, beginning(parted), file)
    assert equal(new, old.state_dict())
    assert said == f"{MODEL} tensors loaded from {file}; 0 of the file not used, 0 of the model newly initialized"
    assert counted(new, beginning(parted), file) == (MODEL, 0, 0)


def test_an_encoder_goes_over_to_another_number_of_classes(parted: Recipe, tmp_path: Path) -> None:
    old, new = model_of(parted, classes=19, seed=1), model_of(parted, classes=3, seed=2)
    head = {name: value.clone() for name, value in new.state_dict().items()}
    file = saved(old.state_dict(), tmp_path / "old.safetensors")
    said = load_initial_weights(new, beginning(parted, "encoder"), file)
    assert equal(new, old.state_dict(), "encoder.") and equal(new, head, "head.")
    assert said == (
        f"{ENCODER} tensors of the encoder loaded from {file}; 2 of the file not used, "
        "2 of the model newly initialized"
    )
    assert counted(new, beginning(parted, "encoder"), file) == (ENCODER, 2, 2)


def test_the_file_of_an_encoder_alone_is_known_for_one(parted: Recipe, tmp_path: Path) -> None:
    old, new = model_of(parted, seed=1), model_of(parted, seed=2)
    file = saved(old.encoder.state_dict(), tmp_path / "encoder.safetensors")
    assert counted(new, beginning(parted, "encoder"), file) == (ENCODER, 0, 2)
    load_initial_weights(new, beginning(parted, "encoder"), file)
    assert equal(new, old.state_dict(), "encoder.")


def test_what_the_model_has_no_place_for_is_left_behind(parted: Recipe, tmp_path: Path) -> None:
    old = {**model_of(parted).state_dict(), "classifier.weight": torch.zeros(3), "other.bias": torch.zeros(1)}
    file = saved(old, tmp_path / "old.safetensors")
    assert counted(model_of(parted), beginning(parted), file) == (MODEL, 2, 0)


def test_older_files_lack_the_counters_of_batch_norms(parted: Recipe, tmp_path: Path) -> None:
    tensors = {k: v for k, v in model_of(parted, seed=1).state_dict().items() if "num_batches" not in k}
    file, new = saved(tensors, tmp_path / "old.safetensors"), model_of(parted, seed=2)
    assert counted(new, beginning(parted), file) == (MODEL - 2, 0, 2)


@pytest.mark.parametrize("wrapped", ["", "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_what_torch_saved_is_read(parted: Recipe, tmp_path: Path, wrapped: str, suffix: str) -> None:
    tensors, new = model_of(parted, seed=1).state_dict(), model_of(parted, seed=2)
    file = tmp_path / f"old{suffix}"
    torch.save({wrapped: tensors, "epoch": 7, "note": "mine"} if wrapped else tensors, file)
    assert counted(new, beginning(parted), file) == (MODEL, 0, 0)
    load_initial_weights(new, beginning(parted), file)
    assert equal(new, tensors)


def test_without_weights_nothing_is_carried(parted: Recipe) -> None:
    model = model_of(parted)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_initial_weights(model, parted, None) == "" and equal(model, before)


def test_weights_written_as_text_are_a_part(parted: Recipe) -> None:
    assert replace(parted, weights="old.pth").weights == Part("old.pth")  # type: ignore[arg-type]


# --- what does not fit ---


def refusal(parted: Recipe, tensors: Tensors, tmp_path: Path, part: str = "all") -> str:
    file = saved(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(PartError) as refused:
        match_tensors(model_of(parted), beginning(parted, part), file)
    assert str(file) in str(refused.value) and "\n" not in str(refused.value)
    return str(refused.value)


def test_another_number_of_classes_is_told_with_what_to_do(parted: Recipe, tmp_path: Path) -> None:
    said = refusal(parted, model_of(parted, classes=19).state_dict(), tmp_path)
    assert "do not fit mine.nets:parted(): 14 of 16 tensors fit." in said
    assert "With another shape: head.1.weight is (19, 4, 1, 1), needed (4, 4, 1, 1), head.1.bias is (19,)" in said
    assert said.endswith('Its encoder fits: use part="encoder".')


@pytest.mark.parametrize("part", ["all", "encoder"])
def test_another_width_is_told_and_no_part_is_advised(parted: Recipe, tmp_path: Path, part: str) -> None:
    wide = replace(parted, model=use("mine.nets:parted", k=6))
    said = refusal(parted, model_of(wide).state_dict(), tmp_path, part)
    assert "encoder.0.weight is (6, 3, 3, 3), needed (4, 3, 3, 3)" in said and "more" in said
    assert "Its encoder fits" not in said


@pytest.mark.parametrize("part", ["all", "encoder"])
def test_another_architecture_is_told_and_nothing_is_changed(parted: Recipe, tmp_path: Path, part: str) -> None:
    other = replace(parted, model=use("mine.nets:net"))
    model, file = model_of(parted), saved(model_of(other).state_dict(), tmp_path / "odd.safetensors")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(PartError, match=r"0 of \d+ tensors fit. Missing: encoder.0.weight, .* and \d+ more"):
        load_initial_weights(model, beginning(parted, part), file)
    assert equal(model, before)


def test_a_model_without_an_encoder_has_no_such_part(label_recipe: Recipe, tmp_path: Path) -> None:
    file = saved(model_of(label_recipe).state_dict(), tmp_path / "old.safetensors")
    with pytest.raises(PartError, match=r'unet has no part named encoder. Use part="all"'):
        match_tensors(model_of(label_recipe), beginning(label_recipe, "encoder"), file)


def test_differences_are_none_where_all_is_there() -> None:
    one = {"a": torch.zeros(2), "bn.num_batches_tracked": torch.zeros(())}
    assert describe_differences(one, {"a": torch.ones(2), "b": torch.ones(3)}) == ""
    assert describe_differences(one, {"a": torch.ones(3)}) == "With another shape: a is (3,), needed (2,)."
    assert describe_differences(one, {"b": torch.ones(3)}) == "Missing: a."


# --- files that cannot be read ---


class Mine:
    """What a pickle may hold; a real one could run anything."""


@pytest.mark.parametrize("name", ["odd.safetensors", "odd.pth"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04cut"], ids=["empty", "text", "cut"])
def test_a_broken_file_is_told_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PartError, match=rf"weights .*{name} cannot be read: .") as told:
        read_weights(tmp_path / name)
    assert "\n" not in str(told.value) and "weights_only" not in str(told.value)


@pytest.mark.parametrize("whole", [True, False], ids=["torch.save", "pickle"])
def test_nothing_but_tensors_is_unpickled(tmp_path: Path, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    file, woken = tmp_path / "odd.pth", []
    monkeypatch.setattr(Mine, "__setstate__", lambda self, state: woken.append(state), raising=False)
    mine = Mine()
    mine.what = 1  # type: ignore[attr-defined]
    if whole:
        torch.save({"weight": torch.zeros(2), "mine": mine}, file)
    else:
        file.write_bytes(pickle.dumps({"weight": mine}))
    with pytest.raises(
        PartError, match=r"holds objects other than tensors, which are not unpickled. Save model.state_dict"
    ):
        read_weights(file)
    assert woken == []


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"state_dict": {}}, 5], ids=str)
def test_a_file_without_tensors_is_told(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(PartError, match=r"odd.pth holds no named tensors"):
        read_weights(tmp_path / "odd.pth")


# --- in training ---


def test_a_trial_begins_from_its_weights_and_says_so(
    parted: Recipe, toy_scenes: CachedDataset, tmp_path: Path
) -> None:
    """A frozen encoder is still the file's after training."""
    old = model_of(parted, classes=19, seed=5).state_dict()
    file = saved(old, tmp_path / "old.safetensors")
    recipe = replace(beginning(parted, "encoder"), stages=(Stage(1, frozen="encoder"),), epochs=1)
    trial = Trial(recipe, toy_scenes, tmp_path / "run", MIOU, file)
    progress = trial.train().progress
    assert progress.carried.startswith(f"{ENCODER} tensors of the encoder loaded from {file}")
    kept = read_weights(trial.run.best)
    assert all(torch.equal(kept[name], value) for name, value in old.items() if name.startswith("encoder."))


def test_weights_that_do_not_fit_fail_the_trial_in_one_line(
    parted: Recipe, toy_scenes: CachedDataset, tmp_path: Path
) -> None:
    file = saved({"a": torch.zeros(1)}, tmp_path / "old.safetensors")
    with pytest.raises(TrialFailed, match="do not fit") as failed:
        Trial(beginning(parted), toy_scenes, tmp_path / "run", MIOU, file).train()
    assert failed.value.kind is FailureKind.WEIGHTS


def test_a_trial_that_goes_on_does_not_carry_again(
    parted: Recipe, toy_scenes: CachedDataset, tmp_path: Path
) -> None:
    recipe = beginning(parted)
    files = [saved(model_of(parted, seed=s).state_dict(), tmp_path / f"{s}.safetensors") for s in (1, 2)]
    unbroken = Trial(recipe, toy_scenes, tmp_path / "unbroken", MIOU, files[0])
    unbroken.train()
    trial = Trial(recipe, toy_scenes, tmp_path / "run", MIOU, files[0])
    assert trial.train(stop_after(4)).end == "stopped"
    trial.start = files[1]
    assert trial.train().progress.carried == unbroken.left()["progress"]["carried"] != ""
    assert_same(trial, unbroken)


@pytest.mark.parametrize(
    ("weights", "carried"), [(use("old.pth"), MODEL), (use("#3", part="encoder"), ENCODER)], ids=str
)
def test_a_rehearsal_carries_random_weights_of_other_classes(
    parted: Recipe, tmp_path: Path, weights: Part, carried: int
) -> None:
    toy = replace(rehearse(replace(parted, weights=weights)), classes=parted.classes)
    assert toy.weights == use("random", part=weights.args.get("part", "all"))
    trainer = Trainer(toy, CPU, MicroBatches(tmp_path / "none.json"))
    before = trainer.model.encoder[0].weight.clone()
    drawn = torch.get_rng_state()
    said = load_initial_weights(trainer.model, toy, None)
    assert f"{carried} tensors" in said and "loaded from random weights" in said
    assert not torch.equal(trainer.model.encoder[0].weight, before)
    assert torch.equal(torch.get_rng_state(), drawn)  # the trial draws as it would have
