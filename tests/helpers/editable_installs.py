"""Editable installations in a temporary folder, in the layout of PEP 660, read by the running Python."""

from __future__ import annotations

import importlib
import json
import site
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.registry import packages


@contextmanager
def forgetting_installs(place: Path) -> Iterator[Path]:
    """Forget at the end what was installed and imported from a folder."""
    path = list(sys.path)
    try:
        yield place
    finally:
        sys.path[:] = path
        files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
        for name, file in files.items():
            if file and Path(file).is_relative_to(place):
                del sys.modules[name]
        forget()


def forget() -> None:
    importlib.invalidate_caches()
    for cached in (packages.read_packages, packages.read_editable, packages.hash_source):
        cached.cache_clear()


def install_editable(place: Path, name: str, source: Path, where: str = "src", **more: str) -> None:
    """Install a source folder as pip does by PEP 660: a .pth and metadata with its URL, which names no module."""
    folder = place / f"{name.replace('-', '_')}-0.3.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    origin = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (folder / "direct_url.json").write_text(more.get("origin", json.dumps(origin)))
    (folder / "RECORD").write_text(f"_{name}.pth,,\n{folder.name}/METADATA,,\n{folder.name}/RECORD,,\n")
    (place / f"_{name}.pth").write_text(f"{source / where}\n")
    site.addsitedir(str(place))
    forget()
