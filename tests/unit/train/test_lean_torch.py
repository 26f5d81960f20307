"""Torch's compiler takes seconds to import, and the check of a space does not use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from tuner.goal import maximize
from tuner.recipe import Recipe, use
from tuner.space.check import check_recipes

model = use("unet", k=4, dropout=0.1)
recipe = Recipe("binary", use("shapes", image_size=32), model, use("bce"), use("adam"), epochs=1)
check_recipes([recipe], maximize("iou"), "")
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_the_check_of_a_recipe_does_not_import_the_compiler() -> None:
    """Where this fails, torch marks by other means what it does not compile: see `lean_torch`."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
