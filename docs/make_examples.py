"""Make the examples of the report and its pictures anew: python docs/make_examples.py FOLDER

Trains the studies of both examples in FOLDER, or continues them there (12 minutes on one core). The horses must be
in a folder that TUNER_DATA names. Run it after a change of what the report says or how its plots look, and look
at docs/images/report_plots.png.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
TUNER = [sys.executable, "-m", "tuner.cli"]
SEARCHES = {
    "horses": "run --table weizmann_unet --shrink 16 --shorten 5 --seeds 2",
    "rehearsal": "run --space unet_k --rehearse",
}


def main() -> None:
    """Train what is missing, write both pages, and take pictures of the horses."""
    folder = Path(sys.argv[1]).absolute()
    for name, search in SEARCHES.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run([*TUNER, *search.split()], cwd=place, check=True)
        page = DOCS / "examples" / f"{name}.html"
        subprocess.run([*TUNER, "report", "--out", page, "--force"], cwd=place, check=True)
    subprocess.run([sys.executable, DOCS / "make_images.py", folder / "horses"], check=True)


if __name__ == "__main__":
    main()
