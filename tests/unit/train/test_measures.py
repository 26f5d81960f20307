"""What a model costs is counted from its shapes; only its latency needs it to run."""

from __future__ import annotations

import torch
from torch import nn

from tuner.recipe import Recipe, Stage, use
from tuner.tasks import find_task
from tuner.train.measures import count_macs, count_params, measure_latency, predict_memory, time_model

SMALL = Recipe(
    task="binary",
    data=use("shapes", image_size=32),
    model=use("unet", k=2),
    loss=use("bce"),
    optimizer=use("adam", lr=1e-3),
    epochs=1,
)
FLOAT = torch.float32


def two_layers() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)).train()


def test_parameters_and_multiply_adds_are_those_of_the_layers() -> None:
    model = two_layers()
    assert count_params(model) == (3 * 9 + 1) * 4 + 4 + 1
    assert count_macs(model, 16) == 16 * 16 * (3 * 9 * 4 + 4)
    assert model.training  # as before


def test_only_the_part_that_runs_on_any_image_is_counted_where_a_model_names_one() -> None:
    model = two_layers()
    model.probe = model[0]
    assert count_macs(model, 16) == 16 * 16 * 3 * 9 * 4


def test_memory_is_weights_and_gradients_and_what_is_kept_for_the_backward_pass() -> None:
    model = two_layers()
    weights = 4 * count_params(model)
    image, first, relu = (4 * 2 * channels * 16 * 16 for channels in (3, 4, 4))
    recipe = Recipe(**{**vars(SMALL), "data": use("shapes", image_size=16)})
    # a ReLU keeps its output, which is the input of the next layer
    assert predict_memory(model, recipe, 2, FLOAT) == (2 * weights + image + relu) / 1e9
    assert predict_memory(model, recipe, 2, torch.bfloat16) == (2 * weights + (image + relu) / 2) / 1e9
    assert first == relu


def test_memory_is_that_of_the_stage_that_needs_most_and_the_model_stays_trainable() -> None:
    model = two_layers()
    both = predict_memory(model, SMALL, 2, FLOAT)
    frozen = Recipe(**{**vars(SMALL), "epochs": 0, "stages": (Stage(epochs=1, frozen="0"),)})
    assert predict_memory(model, frozen, 2, FLOAT) < both
    then_all = Recipe(**{**vars(frozen), "epochs": 0, "stages": (Stage(epochs=1, frozen="0"), Stage(epochs=1))})
    assert predict_memory(model, then_all, 2, FLOAT) == both
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_latency_is_measured_in_eval_mode_and_the_model_is_warm() -> None:
    modes: list[tuple[bool, bool, tuple[int, ...]]] = []

    class Watched(nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            modes.append((self.training, torch.is_grad_enabled(), tuple(image.shape)))
            return super().forward(image)

    model = Watched(3, 1, 1)
    seconds = time_model(model, SMALL, torch.device("cpu"))
    assert {*modes} == {(False, False, (1, 3, 32, 32))} and len(modes) >= len(seconds) + 3
    assert model.training
    assert measure_latency(SMALL, find_task("binary"), torch.device("cpu")) > 0
