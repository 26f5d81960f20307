"""The commands of docker-compose.yml, docs/cluster/slurm.sh and docs/cluster/kubernetes.yaml, run by hand."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest
from helpers.command_line import claims, epochs_of, states, wait_for, write_space
from helpers.compose import LOOK_PASSWORD, PASSWORD, SLURM, Stack, ended, gone_afterwards, kubernetes, stack
from helpers.postgres import postgres

__all__ = ["postgres", "stack"]
MOVED = 143  # as a shell says it: ended by SIGTERM
ENDED = {"COMPLETE", "PRUNED"}


def space(stack: Stack, epochs: int) -> None:
    write_space(stack.folder / "work/search_spaces", epochs=epochs)


def assert_exact(stack: Stack, num_trials: int, epochs: int) -> None:
    """Every trial of the budget ended once, and no epoch is missing."""
    assert list(states(stack.url)) == list(range(num_trials))
    assert set(states(stack.url).values()) <= ENDED
    assert [slot for slot, *_ in claims(stack.url)] == list(range(1, num_trials + 1))
    for number, state in states(stack.url).items():
        assert state == "PRUNED" or epochs_of(stack.url, number) == list(range(1, epochs + 1))


def ask_dashboard(address: str) -> str:
    """The list of studies, by somebody who logs in for it."""
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"http://{address}/api/studies")
    visitor = build_opener(HTTPCookieProcessor())
    form = urlencode({"password": LOOK_PASSWORD}).encode()
    visitor.open(Request(f"http://{address}/login", form, {"Origin": f"http://{address}"})).close()
    with visitor.open(f"http://{address}/api/studies") as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_what_compose_starts_works_together(stack: Stack) -> None:
    space(stack, epochs=2)
    code, said = stack.run("init")
    assert code == 0 and "ready" in said and "correct" not in said
    assert stack.run("init") == (code, said)  # on-failure may start it twice
    dashboard = stack.start("dashboard")
    workers = [stack.start("worker"), stack.start("worker-cpu")]
    with gone_afterwards(dashboard, *workers):
        ends = [ended(worker) for worker in workers]
        for code, said in ends:
            assert code == 0, said
            assert "of 4 trials ended" in said  # one may end while the other still trains the last trial
            assert "correct" not in said
        assert any("4 of 4 trials ended" in said for _, said in ends)
        wait_for(lambda: stack.is_healthy("dashboard"), dashboard)
        address = stack.services["dashboard"]["ports"][0].rsplit(":", 1)[0]
        assert '"tiny"' in ask_dashboard(address)
    assert_exact(stack, 4, epochs=2)
    assert [path.name for path in (stack.folder / "work").iterdir()] == ["search_spaces"]  # only read
    everything = [file.read_bytes() for file in (stack.folder / "runs").rglob("*") if file.is_file()]
    assert everything and not any(PASSWORD.encode() in written for written in everything)


def test_with_another_password_nothing_is_made(stack: Stack) -> None:
    env = {**stack.environment("init"), "PGPASSWORD": "battery staple"}
    code, said = ended(stack.start("init", env=env))
    assert code == 2
    assert "refused the user name or password" in said and "battery" not in said and len(said.splitlines()) == 1


def on_cluster(stack: Stack, **extra: str) -> dict[str, str]:
    """What the user exports before; the password as libpq finds it by itself."""
    return {**stack.environment("worker"), "TUNER_RUN": "--space tiny --trials 4", **extra}


def array_task(stack: Stack, number: int, **extra: str) -> subprocess.Popen[str]:
    task = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": str(number), "TUNER_HOME": f"{stack.folder}/runs"}
    return stack.start("worker", ["bash", str(SLURM)], env=on_cluster(stack, **task, **extra))


@pytest.mark.parametrize("name", ["TUNER_STORAGE", "TUNER_HOME", "TUNER_RUN"])
def test_the_slurm_script_says_what_is_missing(name: str) -> None:
    given = {"TUNER_STORAGE": "sqlite:///x", "TUNER_HOME": "y", "TUNER_RUN": "z", "PATH": "/usr/bin:/bin"}
    del given[name]
    done = subprocess.run(["bash", SLURM], env=given, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"{name}: export it" in done.stderr


def pod(stack: Stack, **extra: str) -> subprocess.Popen[str]:
    """What a pod of the Job runs, in its environment; the image's tini passes signals on."""
    _, job = kubernetes()
    (worker,) = job["spec"]["template"]["spec"]["containers"]
    written = {entry["name"]: entry["value"] for entry in worker["env"] if "value" in entry}
    assert shlex.split(written["TUNER_RUN"])[:2] == ["--space", "unet_k"]
    words = [word.replace("--home /runs", f"--home {stack.folder}/runs") for word in worker["args"]]
    assert words != worker["args"]
    return stack.start("worker", words, env=on_cluster(stack, **extra))


@pytest.mark.slow
def test_a_task_of_the_slurm_array_and_a_pod_share_one_budget(stack: Stack) -> None:
    space(stack, epochs=2)
    both = [array_task(stack, 0), pod(stack)]
    with gone_afterwards(*both):
        ends = [ended(each) for each in both]
        for code, said in ends:
            assert code == 0, said
            assert "of 4 trials ended" in said  # one may end while the other still trains the last trial
        assert any("4 of 4 trials ended" in said for _, said in ends)
    assert_exact(stack, 4, epochs=2)


@pytest.mark.slow
def test_whatever_tells_them_to_stop_they_save_and_put_back(stack: Stack) -> None:
    """Compose's worker ends well; a pod says that it was moved; a task out of time joins the queue again."""
    space(stack, epochs=400)
    many = "--space tiny --trials 100"  # of which some are pruned meanwhile
    stack = stack.running(many)
    asked = stack.folder / "asked"
    scontrol = stack.folder / "bin" / "scontrol"  # writes down what Slurm would be asked
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(asked))}\n')
    scontrol.chmod(0o755)
    path = f"{scontrol.parent}:{stack.environment('worker')['PATH']}"
    told = {
        stack.start("worker"): (signal.SIGTERM, 0),
        array_task(stack, 3, PATH=path, TUNER_RUN=many): (signal.SIGUSR1, 0),  # the script alone is told
        array_task(stack, 4, PATH=path, TUNER_RUN=many): (signal.SIGTERM, 0),
        pod(stack, TUNER_RUN=many): (signal.SIGTERM, MOVED),
    }
    with gone_afterwards(*told):
        wait_for(lambda: list(states(stack.url).values()).count("RUNNING") == len(told), next(iter(told)))
        for process, (sent, _) in told.items():
            os.kill(process.pid, sent)
        for process, (_, expected) in told.items():
            code, said = ended(process)
            assert code == expected, said
    assert set(states(stack.url).values()) <= {"WAITING", "PRUNED"}
    assert {worker for slot, worker, _ in claims(stack.url) if states(stack.url)[slot - 1] == "WAITING"} == {None}
    assert asked.read_text() == "requeue 41_3\n"
    _, job = kubernetes()
    rules = job["spec"]["podFailurePolicy"]["rules"]
    ignored = [rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule]
    assert ignored == [[MOVED]] and {rule["action"] for rule in rules} == {"Ignore"}


@pytest.mark.slow
def test_a_pod_with_a_mistake_in_its_run_fails(stack: Stack) -> None:
    code, said = ended(pod(stack))  # no space of that name
    assert code == 2
    assert "tiny" in said
