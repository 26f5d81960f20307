"""The files for Docker, Slurm and Kubernetes, held to their specifications."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import torch
from helpers.command_line import environment
from helpers.compose import (
    KUBERNETES,
    LOOK_PASSWORD,
    ONE_GPU,
    PASSWORD,
    PASSWORDS,
    ROOT,
    SLURM,
    VARIABLE,
    Missing,
    compose,
    dockerfile,
    kubernetes,
    of,
    services,
)
from packaging.requirements import Requirement


def test_it_keeps_to_the_compose_specification() -> None:
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    found = compose(**PASSWORDS)
    jsonschema.Draft7Validator(schema).validate(found)
    found["services"]["db"]["healthcheck"]["every"] = "5s"
    with pytest.raises(jsonschema.ValidationError):  # it does look
        jsonschema.Draft7Validator(schema).validate(found)


@pytest.mark.parametrize("name", PASSWORDS)
@pytest.mark.parametrize("given", [None, ""], ids=["unset", "empty"])
def test_without_its_passwords_nothing_starts(name: str, given: str | None) -> None:
    variables = {key: value for key, value in PASSWORDS.items() if key != name}
    with pytest.raises(Missing, match=rf"{name}: .*\.env"):
        compose(**variables, **({} if given is None else {name: given}))


def test_the_dashboard_has_a_password_of_its_own_and_nobody_else_is_given_it() -> None:
    found = compose(**PASSWORDS)
    assert found["secrets"] == {"dashboard_password": {"environment": "TUNER_DASHBOARD_PASSWORD"}}
    assert found["services"]["dashboard"]["command"].endswith("--password-file /run/secrets/dashboard_password")
    given = {name for name, service in found["services"].items() if service.get("secrets")}
    assert given == {"dashboard"}
    assert LOOK_PASSWORD not in json.dumps(found["services"])


def test_the_password_stands_in_no_url_and_no_file() -> None:
    for service in services().values():
        carries = [name for name, value in service["environment"].items() if PASSWORD in value]
        assert carries in (["PGPASSWORD"], ["POSTGRES_PASSWORD"])
        assert PASSWORD not in json.dumps({**service, "environment": {}})
    assert "!" + ".env" not in (ROOT / ".dockerignore").read_text()
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_only_the_dashboard_can_be_reached_and_only_from_this_host() -> None:
    found = compose(**PASSWORDS)
    published = {name: service.get("ports", []) for name, service in found["services"].items()}
    assert published.pop("dashboard") == ["127.0.0.1:8080:8080"]
    assert not any(published.values())
    assert found["services"]["db"]["networks"] == ["store"]
    assert found["networks"]["store"] == {"internal": True}
    assert not any(
        service.get("network_mode") or service.get("privileged") for service in found["services"].values()
    )


def test_workers_can_be_scaled_and_are_given_time_to_stop() -> None:
    for name in ("worker", "worker-cpu"):
        worker = services()[name]
        assert not {"container_name", "hostname", "ports"} & worker.keys()  # one name for eight would not start
        assert worker["stop_grace_period"] == "5m"
        assert worker["restart"].startswith("on-failure")  # 0 is the end of the search
    (device,) = services()["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia" and "gpu" in device["capabilities"]
    assert "deploy" not in services()["worker-cpu"] and services()["worker-cpu"]["profiles"] == ["cpu"]


def test_every_name_in_it_is_declared_and_every_volume_has_its_folder_in_the_image() -> None:
    found = compose(**PASSWORDS)
    made = " ".join(of("RUN"))
    for service in found["services"].values():
        assert service.get("depends_on", {}).keys() <= found["services"].keys()
        assert set(service["networks"]) <= found["networks"].keys()
        for volume in service["volumes"]:
            source, target, *_ = volume.split(":")
            assert source in found["volumes"] or source == "."
            assert "postgres" in service["image"] or f" {target}" in made
    assert re.fullmatch(r"postgres:\d+", found["services"]["db"]["image"])


def test_its_variables_are_told_at_its_top_with_their_defaults() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    head, body = text.split("name: tuner\n", 1)
    for name, operator, word in {found[1:] for found in VARIABLE.findall(body)}:
        told = re.search(rf"#   {name} (.*(?:\n#    .*)*)", head)
        assert told, name
        assert operator == ":?" or word == "." or f"Default: {word}" in told[1], name


# --- Dockerfile --------------------------------------------------------------------------------


def test_the_image_is_slim_and_runs_as_no_root() -> None:
    (base,) = of("FROM")
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", base)
    user = of("USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # a name would not do for Kubernetes' runAsNonRoot
    assert f"--uid {user.split(':')[0]} --create-home" in " ".join(of("RUN"))
    names = [name for name, _ in dockerfile()]
    assert names.index("USER") > max(at for at, name in enumerate(names) if name == "RUN")


def test_the_image_has_what_s3_needs() -> None:
    """The extra `s3`, with all that it needs in turn: the cluster page advises s3:// without an installation."""
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), flags=re.M))
    wanted = {"boto3"}
    while wanted:
        name = wanted.pop()
        assert name in pinned
        needs = (Requirement(line) for line in distribution(name).requires or ())
        wanted |= {need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})}


DRIVERS = {"13": "580"}  # of NVIDIA: the first version that runs programs of a major version of CUDA


def test_the_pages_name_the_driver_that_the_pinned_pytorch_needs() -> None:
    cuda = torch.version.cuda
    if cuda is None:
        pytest.skip("PyTorch without CUDA")
    major = cuda.split(".")[0]
    for name in ("Dockerfile", "docs/cluster.md"):
        text = " ".join((ROOT / name).read_text().replace("#", " ").split())
        assert f"CUDA {major}" in text and f"version {DRIVERS[major]} or later" in text, name


def test_no_command_changes_the_umask_of_the_shell_or_mounts_a_folder_that_root_would_create() -> None:
    for name in ("docker-compose.yml", "docs/cluster.md"):
        text = (ROOT / name).read_text()
        assert text.count("umask") == text.count("(umask 077; ") == 1, name
        assert "--volume ./" not in text


def test_signals_reach_tuner_and_no_shell_stands_between() -> None:
    assert json.loads(of("ENTRYPOINT")[0]) == ["tini", "--"]
    assert json.loads(of("CMD")[0])[0] == "tuner"
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert re.search(r"apt-get install [^&]*\btini\b", " ".join(of("RUN")))


def test_a_change_of_tuner_does_not_install_pytorch_again() -> None:
    steps = [f"{name} {rest}" for name, rest in dockerfile()]
    pinned = next(at for at, step in enumerate(steps) if "install -r /build/requirements.txt" in step)
    before = " ".join(step for step in steps[:pinned] if step.startswith("COPY"))
    assert before == "COPY requirements.txt /build/"
    assert any("--no-deps /build" in step for step in steps[pinned:])


def test_no_secret_gets_into_the_image() -> None:
    assert not re.search(r"password|secret|token", (ROOT / "Dockerfile").read_text(), flags=re.I)
    assert not of("ARG")
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"  # all but what is named
    copied = {source for line in of("COPY") for source in line.split()[:-1]}
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.slow
def test_what_the_image_copies_is_enough_to_install_it(tmp_path: Path) -> None:
    build, image = tmp_path / "build", tmp_path / "image"
    build.mkdir()
    for source in {source for line in of("COPY") if "/build/" in line for source in line.split()[:-1]}:
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, build / source)
    (command,) = (line for line in of("RUN") if line.endswith("--no-deps /build"))
    words = [str(build) if word == "/build" else word for word in command.split()]
    env = environment(tmp_path, PYTHONPATH="")
    done = subprocess.run(
        [sys.executable, "-m", *words, "--target", image], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ask = [sys.executable, "-m", "tuner.cli", "spaces"]
    told = subprocess.run(ask, cwd=tmp_path, env={**env, "PYTHONPATH": str(image)}, capture_output=True, text=True)
    assert f"{image}/tuner/shipped/search_spaces/unet_k.py" in told.stdout


# --- one-gpu -----------------------------------------------------------------------------------

HOLD = 'echo "$CUDA_VISIBLE_DEVICES"; exec sleep 300'


def take_gpu(folder: Path, gpus: str) -> tuple[subprocess.Popen[str], str]:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, "TUNER_LOCKS": str(folder / "gpus")}
    process = subprocess.Popen([ONE_GPU, "sh", "-c", HOLD], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, process.stdout.readline().strip()


def test_each_worker_takes_a_gpu_that_no_other_has_and_frees_it_at_its_end(tmp_path: Path) -> None:
    held: list[tuple[subprocess.Popen[str], str]] = []
    try:
        for _ in range(5):
            held.append(take_gpu(tmp_path, "GPU-a,GPU-b"))
        assert [gpu for _, gpu in held] == ["GPU-a", "GPU-b", "GPU-a", "GPU-b", "GPU-a"]
        held[1][0].kill()
        held[1][0].wait()
        held.append(take_gpu(tmp_path, "GPU-a,GPU-b"))
        assert held[-1][1] == "GPU-b"
    finally:
        for process, _ in held:
            process.kill()
            process.communicate()


def test_without_a_gpu_the_command_runs_as_it_is(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "", "TUNER_LOCKS": str(tmp_path / "gpus")}
    done = subprocess.run(
        [ONE_GPU, "sh", "-c", "echo $*", "-", "a b", "c"], env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b c\n", "")
    assert not (tmp_path / "gpus").exists()


# --- Slurm and Kubernetes ----------------------------------------------------------------------


def test_the_slurm_script_is_an_array_that_can_be_sent_back() -> None:
    assert subprocess.run(["bash", "-n", SLURM], capture_output=True).stderr == b""
    lines = SLURM.read_text().splitlines()
    told = [at for at, line in enumerate(lines) if line.startswith("#SBATCH ")]
    first = next(at for at, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(told) < first  # Slurm reads no further than the first command
    options = {
        name: value for name, _, value in (lines[at].removeprefix("#SBATCH --").partition("=") for at in told)
    }
    assert re.fullmatch(r"\d+-\d+", options["array"])
    assert re.fullmatch(r"B:USR1@\d+", options["signal"]) and int(options["signal"].split("@")[1]) >= 60
    assert "requeue" in options and options["open-mode"] == "append"
    assert (options["gpus"], options["ntasks"]) == ("1", "1")
    assert "%A" in options["output"] and "%a" in options["output"]


def test_the_kubernetes_files_are_what_kubernetes_takes() -> None:
    claim, job = kubernetes()
    for document in (claim, job):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert job["spec"]["parallelism"] > 1 and "completions" not in job["spec"]  # they share one budget
    pod = job["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    assert pod["restartPolicy"] == "Never"  # what a podFailurePolicy asks for
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert pod["securityContext"]["runAsUser"] == int(of("USER")[-1].split(":")[0])
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "command" not in worker  # the image's entrypoint stays
    assert {mount["name"] for mount in worker["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    volumes = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]]
    assert claim["metadata"]["name"] in volumes
    asked = {entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in worker["env"] if "valueFrom" in entry}
    assert asked.keys() == {"TUNER_STORAGE", "PGPASSWORD"}
    made = re.search(r"create secret generic (\S+)((?:.|\n)*?)\n#   kubectl", KUBERNETES.read_text())
    assert made and {ref["name"] for ref in asked.values()} == {made[1]}
    assert {ref["key"] for ref in asked.values()} == set(re.findall(r"--from-literal=(\w+)=", made[2]))


def test_the_kubernetes_check_does_look() -> None:
    _, job = kubernetes()
    job["spec"]["parallel"] = 8
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
