"""A bundle that was altered, cut short or made to harm is refused in one line that names what is wrong with it."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from helpers.made_studies import make_bundle
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_forward_hook

from tuner.errors import LONGEST_LINE, MOST_LINES, TunerError
from tuner.export.bundle import load_model, open_bundle
from tuner.export.evaluate import evaluate_bundle
from tuner.export.manifest import MANIFEST, WEIGHTS, hash_bounded
from tuner.export.trained_model import check_scorable
from tuner.paths import Home
from tuner.recipe import Recipe, Stage, use

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def bundle(tmp_path: Path, toy_recipe: Recipe) -> Path:
    return make_bundle(toy_recipe, tmp_path / "best")


def rehash(folder: Path) -> None:
    """Write a manifest that fits the files, as one who alters a bundle on purpose does."""
    files = {path.name: hash_bounded(path) for path in folder.iterdir() if path.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps({"version": 1, "files": files}))


def change_recipe(folder: Path, **fields: Any) -> None:
    path = folder / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    rehash(folder)


def refusal(folder: Path, use_bundle: Callable[[Path], object] = load_model) -> str:
    """Return the message with which a bundle is refused."""
    with pytest.raises(TunerError) as caught:
        use_bundle(folder)
    return check_short(caught.value)


def check_short(error: TunerError) -> str:
    lines = str(error).split("\n")
    assert len(lines) <= MOST_LINES + 2 and max(map(len, lines)) <= LONGEST_LINE
    return str(error)


# --- the manifest ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"version": 1, "a": ' + "9" * 5000 + "}", "at most 20 digits are read"),
        ('{"version": [1], "files": {}}', "no version as a number"),
        (json.dumps({"version": "v" * 100_000, "files": {}}), "no version as a number"),
        (json.dumps({"version": 10**900, "files": {}}), "holds the number 1000"),
        ('{"version": 1, "files": [["a", "b"]]}', "no object of files"),
        (json.dumps({"version": 1, "files": {f"f{i}": "a" * 64 for i in range(10_000)}}), "lists 10,000 files"),
        (json.dumps({"version": 1, "files": {"n" * 5000: "a" * 64}}), "not of files in the bundle"),
        ('{"version": 1, "files": {"../../etc/passwd": "a"}}', r"not of files in the bundle: '../../etc/passwd'"),
        ('{"version": 1, "files": {"a/../../b": "a"}}', "not of files in the bundle"),
        ('{"version": 1, "files": {"/etc/passwd": "a"}}', "not of files in the bundle"),
        ('{"version": 1, "files": {"a\\u0000b": "a"}}', "not of files in the bundle"),
        ('{"version": 1, "files": {"recipe.json": 5}}', "no SHA-256 of recipe.json"),
        ("x" * (1 << 21), "at most 1,048,576 are read"),
    ],
    ids=lambda text: text[:40],
)
def test_a_manifest_that_cannot_be_so_is_refused(bundle: Path, text: str, said: str) -> None:
    (bundle / MANIFEST).write_text(text)
    assert said in refusal(bundle)


def test_only_regular_files_are_read(bundle: Path) -> None:
    for name in (WEIGHTS, MANIFEST):
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        assert f"{name} is a FIFO; a regular file is needed" in refusal(bundle)
        (bundle / name).unlink()
        (bundle / name).symlink_to("/dev/zero")
        assert f"{name} is a device; a regular file is needed" in refusal(bundle)


def test_a_file_that_is_too_large_for_a_bundle_is_not_hashed(bundle: Path) -> None:
    with (bundle / "card.md").open("r+b") as file:
        file.truncate(300 << 20)  # a hole: it takes no space
    assert "card.md has 314,572,800 bytes" in refusal(bundle)


# --- the recipe ---

WRONG: dict[str, tuple[Any, ...]] = {
    "text": ([], {}, 5, None, True),
    "whole": ([], {}, "5", None, True, 1.5, int("9" * 20), "q" * 100_000),
    "part": ([], {}, 5, None, True, [[[]]], {"name": [], "args": {}}, {"name": "unet", "args": "abc"}),
    "list": ({}, 5, None, True, "abc", [1], [[]]),
}
FIELDS = {
    "task": "text",
    "precision": "text",
    **dict.fromkeys(("epochs", "batch_size", "seed", "copies", "validate_every"), "whole"),
    **dict.fromkeys(("data", "model", "loss", "optimizer", "schedule", "augment", "weights"), "part"),
    "stages": "list",
    "classes": "list",
    "metrics": "list",
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_of_the_recipe_has_its_type(bundle: Path, name: str) -> None:
    assert set(FIELDS) == set(Recipe.__dataclass_fields__)
    for value in WRONG[FIELDS[name]]:
        change_recipe(bundle, **{name: value})
        said = refusal(bundle, open_bundle)
        assert "recipe.json: " in said and f"{name} " in said and "needed" in said


def test_all_wrong_fields_are_told_at_once(bundle: Path) -> None:
    change_recipe(bundle, task=[], epochs="a", zzz=1, stages=[{"epochs": 1, "lr": "a", "schedul": None}])
    said = refusal(bundle, open_bundle)
    for told in (
        "5 fields are wrong",
        "task is []; text is needed",
        'epochs is "a"; a whole number is needed',
        "unknown: zzz",
        'lr of stage 1 is "a"; a number or null is needed',
        "unknown: schedul of stage 1. Did you mean 'schedule'?",
    ):
        assert told in said


@pytest.mark.parametrize("plain", [[], None, 5, {}, {"version": 2}, {"version": []}, {"version": 99}])
def test_a_recipe_without_its_fields_is_refused(bundle: Path, plain: Any) -> None:
    (bundle / "recipe.json").write_text(json.dumps(plain))
    rehash(bundle)
    assert refusal(bundle, open_bundle).startswith(f"{bundle / 'recipe.json'}: ")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": {"name": "shapes", "args": {"image_size": 0}}}, "image_size is 0"),
        ({"data": {"name": "shapes", "args": {"image_size": True}}}, "image_size is True"),
        ({"data": {"name": "shapes", "args": {"image_size": 40_000}}}, "at most 8192 is possible"),
        ({"model": {"name": "unet", "args": {"k": 10**7}}}, "does not fit the model"),
        ({"model": {"name": "unet", "args": {"k": "a"}}}, "its model cannot be used: unet(k=a): "),
        ({"model": {"name": "unett", "args": {}}}, "no model 'unett'. Did you mean 'unet'?"),
        ({"model": {"name": "unet", "args": {"zz": 3}}}, "takes no argument 'zz'"),
        ({"task": "binry"}, "no task 'binry'. Did you mean 'binary'?"),
        ({"task": "classification", "classes": ["a", "b"]}, "its model cannot be used"),
        ({"task": "multiclass"}, "the task 'multiclass' needs classes, and there are none"),
        ({"task": "instance"}, "it does not predict instances"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(bundle: Path, fields: dict[str, Any], said: str) -> None:
    change_recipe(bundle, **fields)
    assert said in refusal(bundle)


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": {"name": "dise", "args": {}}},
        {"loss": {"name": "dice", "args": {"zz": 1}}},
        {"batch_size": 0},
        {"optimizer": {"name": "adam", "args": {"lr": "a"}}},
    ],
)
def test_what_scoring_alone_needs_is_checked_before_images_are_read(
    bundle: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    change_recipe(bundle, **fields)
    home = Home(tmp_path / "home")
    assert "recipe.json is wrong" in refusal(bundle, lambda folder: evaluate_bundle(folder, None, "val", home))
    assert not home.cache.exists()


# --- trust ---


@pytest.mark.parametrize(
    "field", ["model", "loss", "optimizer", "schedule", "augment", "data", "stage", "metrics"]
)
def test_code_that_is_not_of_tuner_runs_only_with_trust(
    field: str, tmp_path: Path, toy_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\ndef part(*a): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    own = use("evil:part")
    staged = replace(toy_recipe, stages=(Stage(2, schedule=own),)).to_json()["stages"]
    bundle = make_bundle(toy_recipe, tmp_path / "best")
    lists = {"stage": {"stages": staged}, "metrics": {"metrics": [own.name]}}
    change_recipe(bundle, **lists.get(field, {field: own.to_json()}))
    for use_bundle in (load_model, lambda folder: evaluate_bundle(folder, None, "val", Home(tmp_path / "home"))):
        said = refusal(bundle, use_bundle)
        assert "runs code of its own: " in said and "evil:part" in said and "--trust" in said
    assert not Path("ran").exists()
    assert open_bundle(bundle, trust=True).folder == bundle and not Path("ran").exists()


# --- the weights ---


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    tensors = change(load_file(folder / WEIGHTS))
    (folder / WEIGHTS).unlink()
    save_file(tensors, folder / WEIGHTS)
    rehash(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:4],
        lambda data: b"",
        lambda data: data + bytes(1000),
        lambda data: struct.pack("<Q", 2**60) + data[8:],
        lambda data: data[:8] + b"{{{{" + data[12:],
        lambda data: bytes(range(256)) * 8,
    ],
    ids=["half", "four", "empty", "padded", "header", "no-json", "other"],
)
def test_damaged_weights_are_told(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    (bundle / WEIGHTS).write_bytes(change((bundle / WEIGHTS).read_bytes()))
    rehash(bundle)
    assert "weights.safetensors cannot be read: " in refusal(bundle)


def first(tensors: Tensors) -> str:
    return min(tensors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k: t[k] for k in sorted(t)[1:]}, "29 of 30 tensors fit. Missing: bottleneck.0.bias."),
        (lambda t: {}, "0 of 30 tensors fit. Missing: down1.0.weight, down1.0.bias, down1.3.weight and 27 more."),
        (lambda t: t | {"zzz": torch.zeros(3)}, "30 of 30 tensors fit. Not of the model: zzz."),
        (lambda t: t | {first(t): torch.zeros(7, 7)}, "29 of 30 tensors fit. Of another shape: bottleneck"),
        (lambda t: t | {first(t): t[first(t)].double()}, "bottleneck.0.bias is F64, needed F32."),
        (lambda t: {k: v.half() for k, v in t.items()}, "is F16, needed F32"),
        (lambda t: {k: v.to(torch.int8) for k, v in t.items()}, "is I8, needed F32"),
        (lambda t: {k: v.bool() for k, v in t.items()}, "is BOOL, needed F32"),
        (lambda t: {f"m.{k}": v for k, v in t.items()}, "and 27 more. Not of the model: m.bottleneck.0.bias, "),
    ],
)  # fmt: skip
def test_the_tensors_that_differ_are_named_and_counted(
    bundle: Path, change: Callable[[Tensors], Tensors], said: str
) -> None:
    change_weights(bundle, change)
    assert said in refusal(bundle)


def test_the_model_runs_once_before_it_is_scored(bundle: Path) -> None:
    opened, ran = open_bundle(bundle), []
    kind = type(opened.load_model())
    with register_module_forward_hook(lambda model, *_: ran.append(type(model))):
        check_scorable(opened.recipe, bundle / WEIGHTS)
    assert ran.count(kind) == 1


def test_weights_of_nan_are_told(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_weights(bundle, lambda t: t | {first(t): t[first(t)] * float("nan")})
    load_model(bundle)
    assert "1 of 30 tensors hold NaN; its predictions mean nothing" in caplog.text


@pytest.mark.parametrize(
    "text", ["[]", "[" * 100_000, "{}", '{"goal": {}, "value": 1, "metrics": {}, "params": {}}']
)
def test_the_facts_have_their_types(bundle: Path, text: str) -> None:
    (bundle / "metrics.json").write_text(text)
    rehash(bundle)
    assert "metrics.json " in refusal(bundle, open_bundle)


# --- any change ---


def mutate(rng: Random, value: Any) -> Any:
    """Return a JSON value with one node replaced, dropped, added or wrapped."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice(list(value))
        if rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != name}
        return value | {rng.choice([name, name, "zzz"]): mutate(rng, value[name])}
    atoms = [
        None,
        True,
        0,
        -1,
        10**25,
        1e300,
        "",
        "a" * 10_000,
        "\ud800",
        "os:system",
        [],
        {},
        [[]],
        {"name": "unet"},
    ]
    return rng.choice([*atoms, [value]])


@pytest.mark.parametrize("name", ["recipe.json", "metrics.json", MANIFEST])
def test_any_change_is_refused_in_short_or_the_model_is_the_same(bundle: Path, name: str) -> None:
    plain, rng = json.loads((bundle / name).read_text()), Random(0)
    for _ in range(60):
        (bundle / name).write_text(json.dumps(mutate(rng, plain)))
        if name != MANIFEST:
            rehash(bundle)
        try:
            opened = open_bundle(bundle)
            model = opened.load_model() if name == "recipe.json" else None
        except TunerError as error:
            check_short(error)
        else:
            assert model is None or model(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
