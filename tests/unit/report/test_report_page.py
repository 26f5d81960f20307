"""The page about a study: whole and well-formed whatever the study holds, and nobody's text becomes markup."""

from __future__ import annotations

import io
import json
import math
import re
import runpy
from contextlib import chdir
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.page_reader import PageReader
from helpers.search_studies import EVIL, add, details, open_study, picture, recipe, search
from markupsafe import escape
from optuna.trial import TrialState
from PIL import Image

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import StudyError
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe, Stage, use
from tuner.report.advice import recipe_to_space
from tuner.report.html import check_output, environment, safe_file_name, write_page
from tuner.report.page import read_report, render_report
from tuner.report.trial_files import shrink_picture
from tuner.space.fixed_points import RecipeSample
from tuner.study import queries
from tuner.study.info import StudyKind
from tuner.study.recipe_samples import StoredSample, add_sample
from tuner.study.study import JoinedStudy
from tuner.wording import repeat_options


def read_page(joined: JoinedStudy, folder: Path) -> PageReader:
    info = queries.find_study(joined.engine, None)
    reader = PageReader()
    with chdir(folder):  # where no folder has the name that it advises for an export
        reader.feed(render_report(read_report(joined.engine, info, TrialArtifacts(Home(folder)))))
    assert reader.open == []
    names = [attributes["id"] for _, attributes in reader.tags if attributes.get("id")]
    assert len(names) == len(set(names))
    assert all(attributes.get("alt") for name, attributes in reader.tags if name == "img")
    return reader


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PageReader:
    folder = tmp_path_factory.mktemp("whole")
    joined = search(folder, 30)
    with repeat_options(home="there"):
        reader = read_page(joined, folder)
    joined.engine.dispose()
    return reader


def test_the_headline_says_which_how_sure_and_what_next(whole: PageReader) -> None:
    begin = whole.said.partition("What was searched")[0]
    ship = re.search(r"Ship trial (\d+)\.", begin)
    assert ship and "How sure" in begin and "95 %" in begin and "What to try next" in begin
    assert f"Trial {ship[1]}, the one to ship" in whole.said


def test_everything_asked_of_a_report_is_there(whole: PageReader) -> None:
    for words in (
        "float 1e-05 to 0.01, log", "successive halving", "Pruning saved", "out of memory at one image",
        "def suggest(trial):", "tuner best --study searched --export best --home there",
        "tuner predict best photo.jpg",
        ", the one to ship, is marked", "U-Net of width k on horses",
    ):  # fmt: skip
        assert words in whole.said, words
    figures = json.loads(whole.scripts["figures"])
    assert len(figures) == 12 and {"plot-history", "plot-parallel", "plot-slice-lr"} <= figures.keys()
    places = {attributes.get("id") for _, attributes in whole.tags if attributes.get("class") == "plot"}
    assert places == figures.keys()


def test_nothing_is_asked_of_a_network(whole: PageReader) -> None:
    addresses = [a[key] or "" for _, a in whole.tags for key in ("src", "href") if key in a]
    assert addresses and all(one.startswith(("data:", "#")) for one in addresses)
    assert sum(a.get("src", "").startswith("data:image/webp") for name, a in whole.tags if name == "img") == 6
    (policy,) = [a["content"] for _, a in whole.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert (
        policy and "default-src 'none'" in policy and "http" not in policy and "script-src 'unsafe" not in policy
    )


def test_headings_step_down_one_at_a_time_and_tables_have_headings(whole: PageReader) -> None:
    levels = [int(name[1]) for name, _ in whole.tags if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    tables = sum(name == "table" for name, _ in whole.tags)
    assert tables == sum(name == "caption" for name, _ in whole.tags) >= 4
    assert all(a.get("scope") for name, a in whole.tags if name == "th")


def test_the_page_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    joined = search(tmp_path, 12)
    info = queries.find_study(joined.engine, None)
    made = [render_report(read_report(joined.engine, info, TrialArtifacts(Home(tmp_path)))) for _ in range(2)]
    assert made[0] == made[1] and len(made[0].encode()) < 3_000_000
    joined.engine.dispose()


@pytest.mark.parametrize("model", ["unet", "mine:net"])
def test_a_model_of_ones_own_is_used_with_trust(study: JoinedStudy, tmp_path: Path, model: str) -> None:
    params = {"lr": 1e-3, "k": 8, "loss": "bce"}
    add(study, params, [0.5], notes={"recipe": replace(recipe(params, 1), model=use(model)).to_json()})
    said = read_page(study, tmp_path).said
    assert "tuner predict best photo.jpg" in said and ("photo.jpg --trust" in said) == (model == "mine:net")


def test_a_study_of_two_recipes_says_from_where_on(study: JoinedStudy, tmp_path: Path) -> None:
    sample = RecipeSample(({"lr": 1e-3},), ({"epochs": 5},))
    add_sample(study.storage, study.id, 0, StoredSample(sample))
    assert "other recipes" not in read_page(study, tmp_path).said
    add_sample(study.storage, study.id, 1, StoredSample(sample, 12, ("epochs: from 5 to 2",)))
    assert "from trial 12 on with other recipes (epochs: from 5 to 2)" in read_page(study, tmp_path).said


def test_what_people_wrote_stays_text(tmp_path: Path) -> None:
    joined = open_study(tmp_path, EVIL, space=EVIL, data=EVIL)
    params = {"lr": 1e-3, "k": 8, "loss": "bce"}
    notes = {"failure": EVIL, "made_with": {"train_images": EVIL}, "repeat": EVIL}
    add(joined, params, [0.1, 0.5], notes=notes, files={"predictions.png": b"no picture " + EVIL.encode()})
    add(joined, {"lr": 1e-2}, [0.2], TrialState.FAIL, notes=notes)
    reader = read_page(joined, tmp_path)
    scripts = [a for name, a in reader.tags if name == "script"]
    assert len(scripts) == 3 and not any("onerror" in a for _, a in reader.tags)
    assert [a for name, a in reader.tags if name == "img"] == []
    assert reader.said.count("document.title='owned'") >= 3
    joined.engine.dispose()


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.RUNNING, TrialState.PRUNED, None])
def test_a_study_with_nothing_finished_says_so(
    study: JoinedStudy, tmp_path: Path, state: TrialState | None
) -> None:
    if state is TrialState.RUNNING:
        study.study.ask()
    elif state:
        for _ in range(3):
            add(
                study,
                {"lr": 1e-3},
                [0.1],
                state,
                notes={"failure": "val_loss is nan at epoch 1 with adam(lr=0.1)"},
            )
    reader = read_page(study, tmp_path)
    assert "Nothing to ship yet" in reader.said and "What to try next" in reader.said
    assert ("3 of 3 trials failed: loss not finite" in reader.said) == (state is TrialState.FAIL)


def test_one_trial_and_no_pictures_is_enough_for_a_page(study: JoinedStudy, tmp_path: Path) -> None:
    add(study, {"lr": 1e-3, "k": 8, "loss": "bce"}, [0.1, 0.5], loss=[math.nan, math.inf])
    reader = read_page(study, tmp_path)
    assert "Ship trial 0." in reader.said and "Not shown: trial 0 has no predictions.png" in reader.said
    assert "no scores of single validation images" in reader.said and "NaN" not in reader.scripts["figures"]


def test_a_picture_that_is_gone_or_damaged_is_told_in_its_place(study: JoinedStudy, tmp_path: Path) -> None:
    files = {"predictions.png": picture()[:200], "strip.png": picture(), "quality.png": b"", "details.json": b"{"}
    add(study, {"lr": 1e-3, "k": 8, "loss": "bce"}, [0.1, 0.5], files=files)
    trial = study.study.get_trials(deepcopy=False)[0]
    for key, about in trial.system_attrs.items():
        if json.loads(about)["filename"] == "strip.png":
            (tmp_path / "artifacts" / key.removeprefix("artifacts:")).unlink()
    said = read_page(study, tmp_path).said
    assert "predictions.png of trial 0 cannot be read" in said and "quality.png of trial 0 cannot be read" in said
    assert "strip.png of trial 0 was deleted" in said
    assert "details.json of trial 0 is gone, damaged or without scores" in said


def test_pictures_of_instances_are_described_as_such(study: JoinedStudy, tmp_path: Path) -> None:
    params: dict[str, Any] = {"lr": 1e-3, "k": 8, "loss": "bce"}
    plain = replace(recipe(params, 2), task="instance").to_json()
    files = {"predictions.png": picture(), "quality.png": picture(), "curves.png": picture()}
    add(study, params, [0.1, 0.5], files=files, notes={"recipe": plain})
    said = read_page(study, tmp_path).said
    assert "matching true and predicted instances have one colour" in said and "the number of instances" in said
    assert "confusion matrix" not in said and "metrics after every epoch" in said


def test_the_recipe_on_the_page_trains_the_same(tmp_path: Path) -> None:
    first = recipe({"lr": 0.00123, "k": 12, "loss": "dice"}, 7)
    staged = Recipe(
        task="classification",
        data=use("badges", image_size=32),
        model=use("mobilenet", width=0.5),
        loss=use("cross_entropy"),
        optimizer=use("sgd", lr=0.1, momentum=0.9),
        stages=(Stage(2, "encoder", judged=False), Stage(3, lr=1e-4, schedule=use("plateau", patience=2))),
        weights=use("imagenet", part="encoder"),
        batch_size=16,
        seed=3,
        classes=("a", "b"),
    )
    for at, one in enumerate((first, staged)):
        path = tmp_path / f"again{at}.py"
        path.write_text(recipe_to_space(one.to_json(), maximize("iou")))
        made = runpy.run_path(str(path))
        again: Recipe = made["suggest"](None)
        assert {**vars(again), "seed": 0, "classes": ()} == {**vars(one), "seed": 0, "classes": ()}
        assert made["GOAL"] == maximize("iou")
    assert recipe_to_space({"version": 99}, maximize("iou")) == "" and recipe_to_space({}, maximize("iou")) == ""


def test_a_table_that_is_not_there_any_more_is_told(tmp_path: Path) -> None:
    joined = open_study(tmp_path, kind=StudyKind.TABLE, subject="gone_table")
    add(joined, {"lr": 1e-3, "k": 8, "loss": "bce"}, [0.1, 0.5])
    assert "The published table 'gone_table' cannot be shown" in read_page(joined, tmp_path).said
    joined.engine.dispose()


def test_a_table_stands_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "studies" / "mine.toml"
    table.parent.mkdir()
    table.write_text(
        'space = "unet_k"\nmetric = "iou"\n\n[[rows]]\nparams = { lr = 0.001, k = 8 }\npublished = 0.7654\n'
    )
    joined = open_study(tmp_path, kind=StudyKind.TABLE, subject="mine")
    notes = {"row": json.dumps({"k": 8.0, "lr": 0.001}), "repeat": 1}
    add(joined, {"lr": 1e-3, "k": 8, "loss": "bce"}, [0.1, 0.5], notes=notes)
    said = read_page(joined, tmp_path).said
    assert "Published and ours" in said and "0.7654 0.5000 -0.2654" in said
    joined.engine.dispose()


def test_trials_judged_by_images_are_told_apart_on_the_page(study: JoinedStudy, tmp_path: Path) -> None:
    for at, scores in enumerate(([0.9, 0.5, 0.7] * 8, [0.5, 0.9, 0.69] * 8)):
        curve = [0.3, 0.6 - at / 100]
        add(
            study, {"lr": 10.0 ** -(2 + at), "k": 8, "loss": "bce"}, curve, files={"details.json": details(scores)}
        )
    assert "trial 0 cannot be told apart from trial 1" in read_page(study, tmp_path).said


def test_a_file_that_stands_is_kept_without_force_and_whole_with_it(tmp_path: Path) -> None:
    out = tmp_path / "sub" / "r.html"
    write_page("old", out)
    with pytest.raises(StudyError, match="is there already"):
        check_output(out, (".html",), force=False)
    check_output(out, (".html",), force=True)
    write_page("new", out)
    assert out.read_text() == "new" and [path.name for path in out.parent.iterdir()] == ["r.html"]
    with pytest.raises(StudyError, match="is a folder"):
        check_output(tmp_path, (".html",), force=True)
    with pytest.raises(StudyError, match=r"ends in \.html or \.png"):
        check_output(tmp_path / "r.pdf", (".html", ".png"), force=True)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".hidden", "ü" * 300, "a\x00b"])
def test_a_studys_name_makes_a_file_here(name: str) -> None:
    made = safe_file_name(name)
    assert (
        made and "/" not in made and not made.startswith(".") and len(made.encode()) < 240 and made.isprintable()
    )


def test_markup_is_made_of_escaped_text() -> None:
    made = environment().from_string('<p title="{{ title }}">{{ text }}</p>').render(title='"><b>', text=EVIL)
    assert made == f'<p title="&#34;&gt;&lt;b&gt;">{escape(EVIL)}</p>' and "<" not in escape(EVIL)
    assert environment().from_string("{{ text }}").render(text="a\x00\x1b[31mb") == "a[31mb"
    plain = environment().from_string("{{ x | tojson }}").render(x={"a": "</script><!--\u2028"})
    assert "<" not in plain and "\u2028" not in plain and json.loads(plain) == {"a": "</script><!--\u2028"}


def test_a_picture_of_too_many_pixels_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own refusal is neither of the errors of a damaged file."""
    body = io.BytesIO()
    Image.new("RGB", (40, 40)).save(body, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="exceeds limit"):
        shrink_picture(body.getvalue())


def test_a_damaged_picture_is_told_without_places_in_memory() -> None:
    with pytest.raises(ValueError, match=r"^not a picture, or damaged$"):
        shrink_picture(b"\x89PNG")
