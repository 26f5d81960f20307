"""What a command prints as the next one is typed as it stands: each of them works."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run, write_space
from PIL import Image

PRINTED = re.compile(r"(?:next|with|to continue): ((?:cd .+ && )?tuner .+)$", flags=re.M)
HOME = ("--home", "../my home")


class Typist:
    """Types commands in a folder, and at once those that they print; what trains on and on only the first time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.depth = folder, 0
        self.typed: dict[str, str] = {}  # each printed line -> the name of its command

    def type(self, *words: str, folder: Path | None = None) -> None:
        done = run(folder or self.folder, *words)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "Traceback" not in said, f"tuner {shlex.join(words)}\n{said}"
        for line in PRINTED.findall(said):
            if line not in self.typed and not (self.depth and name_in(line) == "run"):
                self.type_line(line)

    def type_line(self, line: str) -> None:
        """Type a printed line as a shell would read it."""
        before, _, command = line.rpartition(" && ")
        folder = Path(shlex.split(before)[1]) if before else None
        program, *words = shlex.split(command)
        assert program == "tuner"
        self.typed[line] = name_in(line)
        self.depth += 1
        self.type(*("photo.jpg" if word == "IMAGE..." else word for word in words), folder=folder)
        self.depth -= 1


def name_in(line: str) -> str:
    return line.rpartition("&& ")[2].split()[1]


def read_commands(page: Path) -> list[str]:
    """Return the commands that a report shows."""
    text = html.unescape(page.read_text(encoding="utf-8"))
    lines = re.findall(r"^(?:<[^\n]*>)?((?:cd [^\n]+ && )?tuner [a-z][^\n<]+)", text, flags=re.M)
    return list(dict.fromkeys(lines))


@pytest.mark.slow  # whole commands, with training
def test_every_next_command_of_a_short_path_works_as_it_is_typed(tmp_path: Path) -> None:
    place, spaces, other = tmp_path / "my work", tmp_path / "my spaces", tmp_path / "elsewhere"
    for folder in (place, spaces, other):
        folder.mkdir()
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "photo.jpg")
    space = write_space(spaces, epochs=1)
    user = Typist(place)
    user.type("run", "--space", f"../my spaces/{space.name}", "--trials", "1", *HOME)
    if not (place / "best").exists():  # the model finds nothing: another command is printed
        user.type("best", "--export", "best", *HOME)
    for words in (
        ["status"],
        ["trials"],
        ["show", "0"],
        ["workers"],
        ["budget"],
        ["decisions"],
        ["pause"],
        ["stop"],
        ["data", "shapes"],
        ["extend", "--epochs", "2"],
    ):
        user.type(*words, *HOME)
    user.type("explain", "best", "photo.jpg")
    assert {"run", "predict", "resume"} <= set(user.typed.values())
    readers = [Typist(place), Typist(other)]
    for reader, home in zip(readers, ("../my home", str(tmp_path / "my home")), strict=True):
        reader.type("report", "--study", "tiny", "--home", home)
    for reader in readers:
        lines = read_commands(reader.folder / "tiny-report.html")
        assert {"run", "extend"} <= set(map(name_in, lines)), lines
        for line in lines:
            reader.type_line(line)
