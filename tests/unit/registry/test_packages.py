"""The installed packages that parts of the user's own come from, editable ones with a hash of their source."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.editable_installs import forget, forgetting_installs, install_editable

from tuner.registry import packages
from tuner.registry.packages import InstalledPackage, own_packages

CLICK = InstalledPackage("click", version("click"))


def test_the_packages_of_parts_are_named_with_their_versions(own_folder: Path) -> None:
    (own_folder / "packaged.py").touch()
    names = ["unet", "packaged:net", "math:sqrt", "nowhere:f", "torch.nn:Conv2d", "click:echo", "PIL.Image:open"]
    others = [InstalledPackage(name, version(name)) for name in ("pillow", "torch")]
    assert own_packages(names) == [CLICK, *others]
    assert own_packages(["unet", "packaged:net"]) == []


def test_of_several_packages_with_one_first_name_that_of_the_module_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "read_packages", lambda: {"click": ["optuna", "click", None, "click"]})
    assert own_packages(["click.testing:Result"]) == [CLICK]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for sites and sources."""
    with forgetting_installs(tmp_path):
        yield tmp_path


def write_files(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_an_editable_package_is_named_with_a_hash_of_its_source(place: Path) -> None:
    source = place / "work of mine"  # as %20 in its URL
    write_files(source / "src", ednets__net="def net(): ...", ednets__blocks="width = 3", other="")
    install_editable(place / "site", "ed-nets", source)
    names = ["ednets.net:net", "ednets.net:loss"]
    (first,) = own_packages(names)
    assert (first.name, first.version, len(first.source_hash)) == ("ed-nets", "0.3", 64)
    write_files(source / "src", other="not of ednets")
    forget()
    assert own_packages(names) == [first]
    write_files(source / "src", ednets__blocks="width = 5")
    assert own_packages(names) == [first]  # the process has imported the former
    forget()
    (second,) = own_packages(names)
    assert second.source_hash not in ("", first.source_hash)
    (source / "src" / "ednets" / "blocks.py").rename(source / "src" / "ednets" / "bricks.py")
    forget()
    assert own_packages(names)[0].source_hash not in ("", first.source_hash, second.source_hash)


def test_an_editable_package_that_is_one_module_is_named_too(place: Path) -> None:
    write_files(place / "src", edsingle="def net(): ...")
    install_editable(place / "site", "edsingle", place)
    (found,) = own_packages(["edsingle:net"])
    write_files(place / "src", edunrelated="")
    forget()
    assert own_packages(["edsingle:net"]) == [found] and found.source_hash


def test_what_is_installed_inside_an_editable_source_is_not_of_it(place: Path) -> None:
    """As in a project whose environment is a folder of it."""
    write_files(place / "project" / "src", edouter="")
    write_files(place / "project" / "env", edcopied="")
    write_files(place / "project" / "plugins" / "one" / "src", edinner="")
    install_editable(place / "project" / "env", "edouter", place / "project")
    install_editable(place / "project" / "env", "edinner", place / "project" / "plugins" / "one")
    found = {
        each: [one.name for one in own_packages([f"{each}:f"])] for each in ("edouter", "edinner", "edcopied")
    }
    assert found == {"edouter": ["edouter"], "edinner": ["edinner"], "edcopied": []}


@pytest.mark.parametrize(
    "origin",
    [
        "{",
        '{"dir_info": 3}',
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("", "[]", "5", '{"dir_info": {"editable": true}}')
        ),
    ],
)
def test_an_odd_origin_of_a_package_is_ignored(place: Path, origin: str) -> None:
    write_files(place / "src", edodd="")
    install_editable(place / "site", "edodd", place, origin=origin)
    assert own_packages(["edodd:net", "click:echo"]) == [CLICK]
