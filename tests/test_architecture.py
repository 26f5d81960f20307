"""The house keeps its shape: imports point one way, and what must stay light stays light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.tables import epoch_table

PACKAGE = Path(__file__).parent.parent / "tuner"

# From the ground up: a module may import only what stands above it here. The same picture is in docs/design.md.
PICTURE = """
    errors goal recipe parts tasks orders console gpus runs chosen details
    store parcels sender keeper gallery published download
    database tables claims pages watch control hours overview failures tally words starts
    instances data.source data.images data.coco data.folder data.shapes data.scenes data.badges data.cells
    data.places data.oxford_pet data.cityscapes data.datasets data.get data.survey data.cache data.shelf
    energy
    data.noise data.augment data.hands data.batches
    models models.blocks models.pretrained
    models.unet models.unet_transposed models.basic_cnn models.resnet_unet models.mobilenet models.fcn
    models.smp models.timm models.sport_vgg models.pixel_frequency models.deep_watershed
    models.pasting models.backbones models.mask_rcnn
    losses optims metrics instance_metrics
    train.precision train.memory train.checkpoint train.scoring train.stages train.trainer train.shown
    train.validation train.weights train.loop
    report.charts report.drawn report.interactive report.curves report.overlays report.things report.tables
    report.sheet report.heat layers explain report.examples report.strip report.quality
    report.later report.story report.files report.courses report.markup
    catalogue check rehearsal space sampling reading storage study setup listed notes pictures takeover
    clerk desk objective worker
    best bundle annotations predict panels evaluate
    quarantine seats sharing ray_seats crew fleet sparks screen live comparison
    report.importance report.figures report.certainty report.advice report.again report.pictures report.versus
    report.output report.chapters report.page shown
    launch longer
    web.wsgi web.login web.guard web.shell web.artifacts web.studies dashboard
    cli.common cli.control cli.search cli.status cli.results cli.explain cli.report cli.dashboard
    cli.data cli.parts cli.table cli cli.__main__
"""
ORDER = PICTURE.split()
PACKAGES = {"", "data", "train", "report", "web"}  # their __init__ holds a docstring or lazy names only
LIGHT = (
    ["--help"],
    ["spaces"],
    ["table"],
    ["table", "weizmann_unet"],
    ["status"],
    ["workers"],
    ["budget"],
    ["stop"],
    ["pause"],
    ["resume"],
    ["best"],
    ["best", "--export", "out"],
)


def modules() -> dict[str, Path]:
    """Every module by its name below `tuner`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """Everything a file imports, inside functions too; what is for type checkers only is left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def ours(path: Path) -> set[str]:
    return {name.removeprefix("tuner.") for name in imported(path) if name.startswith("tuner.")} & set(modules())


def test_every_module_has_its_place() -> None:
    assert set(modules()) - PACKAGES == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_one_way(name: str) -> None:
    above = set(ORDER[: ORDER.index(name)]) | PACKAGES
    assert ours(modules()[name]) <= above, f"{name} imports from below itself"


@pytest.mark.parametrize("name", sorted(set(modules())))
def test_no_file_imports_both_optuna_and_torch(name: str) -> None:
    tops = {found.split(".")[0] for found in imported(modules()[name])}
    assert not {"optuna", "torch"} <= tops


@pytest.mark.parametrize("name", sorted(set(modules())))
def test_no_file_is_longer_than_400_lines(name: str) -> None:
    assert len(modules()[name].read_text().splitlines()) <= 400


@pytest.mark.parametrize("command", LIGHT, ids=" ".join)
def test_light_commands_never_load_torch(command: list[str], tmp_path: Path) -> None:
    make_study(tmp_path)
    code = (
        "import sys\nsys.argv = ['tuner', *sys.argv[1:]]\nfrom tuner.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'torch', 'optuna', 'albumentations', 'cv2', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "    print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, env=os.environ, capture_output=True, text=True
    )
    assert "HEAVY []" in done.stdout and done.returncode == 0, done.stderr


def make_study(folder: Path) -> None:
    """A study with one finished trial and its weights, without training it."""
    from optuna.trial import create_trial

    from tuner.goal import maximize
    from tuner.recipe import Recipe, use
    from tuner.runs import Home
    from tuner.study import Plan, join

    home = Home(folder / "runs").make()
    joined = join(home.database, "unet_k", Plan("unet_k", maximize("iou"), "shapes", False, 0, {}))
    recipe = Recipe("binary", use("shapes"), use("unet"), use("bce"), use("adam"), epochs=1)
    row = {"epoch": 1, "value": 0.5, "seconds": 1, "images_per_second": 1, "peak_memory": 1, "lr": 1}
    notes = {"recipe": recipe.to_json(), "result": {"best_epoch": 1}, "made_with": {}}
    joined.study.add_trial(create_trial(value=0.5, user_attrs=notes))
    trial_id = joined.study.trials[0]._trial_id
    with joined.engine.begin() as db:
        db.execute(epoch_table.insert().values(trial_id=trial_id, metrics={"val_iou": 0.5, "val_loss": 1}, **row))
    joined.engine.dispose()
    run = home.run("unet_k", joined.plan.key, 0).make()
    for file in (run.best, *run.late):  # a picture that is not there is drawn, which takes what draws
        file.write_bytes(file.name.encode())


def test_public_names_are_there() -> None:
    import tuner

    assert all(getattr(tuner, name) for name in tuner.__all__)


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Two of one name cannot be collected together: the tests are no package."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
