"""In the place of nvidia-smi, a program that says what it said on machines with GPUs."""

from __future__ import annotations

import os
from pathlib import Path

WHOLE = """GPU 0: NVIDIA H200 (UUID: GPU-4f1e8f0c-0000-0000-0000-000000000000)
GPU 1: NVIDIA H200 (UUID: GPU-9ab1c2d3-0000-0000-0000-000000000000)
"""
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-4f1e8f0c-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaaaaaaa-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  1: (UUID: MIG-bbbbbbbb-0000-0000-0000-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-9ab1c2d3-0000-0000-0000-000000000000)
"""


def smi(folder: Path, listed: str = WHOLE, memory: str = "") -> str:
    """A PATH that has the program in front. `memory`: of any GPU, total and used, in MiB."""
    folder.mkdir(exist_ok=True)
    (folder / "listed").write_text(listed)
    (folder / "memory").write_text(memory)
    tool = folder / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\n[ "$1" = -L ] && exec cat {folder}/listed\nexec cat {folder}/memory\n')
    tool.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
