"""No input of any family breaks the program: one line, within limits, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from helpers import fuzzing
from helpers.fuzzing import Answer, Case, Ground, answer_problems, call, make_case, try_case

from fuzz import FAMILIES

SEED = int(os.environ.get("TUNER_FUZZ_SEED", "0"))
PARTS = 4  # of a family, for processes beside each other


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    yield Ground(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("family", FAMILIES)
def test_bad_inputs_are_answered_well(family: str, part: int, ground: Ground) -> None:
    trials = [try_case(family, SEED, number, ground) for number in range(part, FAMILIES[family], PARTS)]
    bad = [
        f"python -m benchmarks.fuzz --family {family} --seed {SEED} --only {trial.number}   {trial.what}\n"
        + "\n".join(f"    {problem}" for problem in trial.problems)
        for trial in trials
        if trial.problems
    ]
    assert not bad, f"{len(bad)} of {len(trials)}:\n" + "\n".join(bad[:20])


def test_a_case_is_the_same_each_time(ground: Ground) -> None:
    for number in range(20):
        first, files = make_case("tables", 1, number, ground).what, content(ground)
        assert (make_case("tables", 1, number, ground).what, content(ground)) == (first, files)


def content(ground: Ground) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in ground.cwd.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(0, b"fine\n"), ""),
        (Answer(2, err=b"tuner: no such file.\n"), ""),
        (Answer(1, err=b"tuner: no such file.\n"), "its code is 1"),
        (Answer(1, error=KeyError("recipe")), "KeyError: \"'recipe'\""),
        (Answer(2, err=b"Traceback (most recent call last):\n"), "a traceback"),
        (Answer(2, err=b"tuner: " + b"x" * 501), "a line of 508 characters"),
        (Answer(2, err=b"tuner: a\n" + b"b\n" * 30), "31 lines"),
        (Answer(2, err=b"tuner: a\ntuner: b\n"), "several messages"),
        (Answer(2), "refused without a word"),
        (Answer(0, b"caf\xe9"), "stdout is not UTF-8"),
        (Answer(2, err=b"a\0b"), "stderr has {'\\x00'}"),
    ],
)
def test_a_bad_answer_is_told(answer: Answer, told: str) -> None:
    problems = answer_problems(answer)
    assert problems == [] if told == "" else told in "".join(problems)


def leave_file() -> None:
    Path("left.tmp").touch()


def leave_folder() -> None:
    Path("inner").mkdir()
    os.chdir("inner")


def test_waiting_for_a_processor_is_not_taking_long() -> None:
    """With three others on the same core, a fifth of a second of work takes four fifths."""
    core = {min(os.sched_getaffinity(0))}
    hold = f"import os; os.sched_setaffinity(0, {core})\nwhile True: pass"
    others = [subprocess.Popen([sys.executable, "-c", hold]) for _ in range(3)]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        with fuzzing.time_limit(0.4):
            ends = time.thread_time() + 0.2
            while time.thread_time() < ends:
                pass
        with pytest.raises(fuzzing.NeverEnds), fuzzing.time_limit(0.1):
            while True:
                pass
    finally:
        os.sched_setaffinity(0, before)
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: None, ""),
        (lambda: time.sleep(60), "NeverEnds"),
        (lambda: bytearray(os.urandom(1)) * 700_000_000, "it took "),
        (leave_file, "it left 'cwd/left.tmp'"),
        (leave_folder, "it changed the state of the process"),
        (lambda: Path("../kept").unlink(), "it removed 'kept'"),
        (lambda: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_what_a_case_does_beside_its_answer_is_told(
    act: Callable[[], object], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing, "SECONDS", 0.5)
    monkeypatch.setattr(fuzzing, "load_family", lambda name: SimpleNamespace(make_case=make))
    own = Ground(tmp_path)
    (tmp_path / "kept").touch()

    def make(rng: Random, ground: Ground) -> Case:
        return Case("act", lambda: call(act))

    problems = try_case("", 0, 0, own).problems
    assert problems == [] if told == "" else told in "".join(problems)


@pytest.mark.parametrize(("makes", "told"), [(("*", "../...html"), []), (("*",), ["it left '...html'"])])
def test_what_a_case_may_make_can_be_beside_its_folder(
    makes: tuple[str, ...], told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("act", lambda: call(Path("../...html").touch), makes)
    monkeypatch.setattr(fuzzing, "load_family", lambda name: SimpleNamespace(make_case=lambda rng, ground: case))
    assert try_case("", 0, 0, Ground(tmp_path)).problems == told
