"""The files around the code: versions, licence, continuous integration, pre-commit hooks."""

from __future__ import annotations

import json
import os
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ruamel.yaml import YAML

import tuner

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def workflow() -> Any:
    return YAML(typ="safe").load(WORKFLOW)  # YAML 1.2: "on" is a string


def test_versions_agree() -> None:
    latest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert latest and latest[1] == project()["version"] == tuner.__version__


def test_the_licence_is_named_and_present() -> None:
    assert project()["license"] == "MIT" and project()["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License") and f"{project()['authors'][0]['name']}\n" in text


def test_classifiers_name_the_tested_pythons() -> None:
    named = [c.rpartition(" ")[2] for c in project()["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert named == workflow()["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert project()["requires-python"] == f">={named[0]}"


def test_workflow_is_valid_and_runs_make_test() -> None:
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/github-workflows.json").read_text()
    validator = jsonschema.Draft7Validator(json.loads(schema))
    found = workflow()
    validator.validate(found)
    assert found["jobs"]["test"]["steps"][-1]["run"] == ".ci/run"
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1].startswith("make test")
    found["jobs"]["test"]["step"] = []
    with pytest.raises(jsonschema.ValidationError):  # the schema does reject a wrong key
        validator.validate(found)


def test_hooks_are_local_and_run_what_make_test_runs() -> None:
    found = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repo,) = found["repos"]
    assert repo["repo"] == "local"
    makefile = (ROOT / "Makefile").read_text()
    for hook in repo["hooks"]:
        assert hook["language"] == "system" and hook["entry"].startswith(".venv/bin/")
        tool = " ".join(hook["entry"].removeprefix(".venv/bin/").split()[:2]).removesuffix(" --fix")
        assert f"$(BIN)/{tool}" in makefile, tool


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:tests|tuner|docs)/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name
    for table, file in re.findall(r"`([A-Z]+)`(?:\s+and `[A-Z]+`)? in `(tuner/[\w/.]+)`", text):
        assert re.search(rf"^{table}\b", (ROOT / file).read_text(), flags=re.M), table


@pytest.mark.xdist_group("together")
def test_groups_of_tests_run_in_one_process(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("needs -n")
    assert request.node.nodeid.endswith("@together"), (
        "pytest-xdist does not group tests with this version of pytest"
    )
