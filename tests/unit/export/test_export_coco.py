"""COCO files of found instances: exact, as pycocotools reads them, one image after the other."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from tuner.data.instances import Instances, renumber
from tuner.export.coco import CocoWriter, annotations_of, file_names

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def instances(labels: NDArray[np.int32]) -> Instances:
    number = int(labels.max(initial=0))
    return Instances(labels, np.linspace(0.9, 0.5, number).astype(np.float32))


def kept(*found: Instances) -> dict[str, Any]:
    file = io.StringIO()
    made = CocoWriter(file)
    for at, one in enumerate(found):
        made.add(f"{at}.png", one)
    made.close()
    return json.loads(file.getvalue())  # type: ignore[no-any-return]


def test_a_map_worked_out_by_hand() -> None:
    labels = np.array([[1, 1, 0], [0, 1, 2]], np.int32)  # down the columns: 1 0, 1 1, 0 2
    first, second = annotations_of(instances(labels))
    assert first["segmentation"] == {"size": [2, 3], "counts": [0, 1, 1, 2, 2]}
    assert second["segmentation"] == {"size": [2, 3], "counts": [5, 1]}
    assert (first["bbox"], first["area"], first["score"]) == ([0, 0, 2, 2], 3, 0.9)
    assert (second["bbox"], second["area"], second["score"], second["iscrowd"]) == ([2, 1, 1, 1], 1, 0.5, 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (33, 57)], ids=str)
def test_masks_boxes_and_areas_are_pycocotools(tmp_path: Path, seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    found = [instances(renumber(rng.integers(0, 6, size))) for _ in range(2)]  # scattered, in many runs
    (tmp_path / "instances.json").write_text(json.dumps(kept(*found)))
    coco = COCO(str(tmp_path / "instances.json"))
    for image, one in enumerate(found, start=1):
        told = coco.loadAnns(coco.getAnnIds(image))
        assert len(told) == len(one.scores)
        for number, each in enumerate(told, start=1):
            assert np.array_equal(coco.annToMask(each), one.labels == number)
            packed = coco.annToRLE(each)
            assert coco_masks.toBbox(packed).tolist() == each["bbox"]
            assert int(coco_masks.area(packed)) == each["area"] and each["category_id"] == 1
    assert [one["id"] for one in coco.dataset["annotations"]] == list(range(1, len(coco.anns) + 1))


def test_images_of_nothing_are_kept_and_a_number_without_a_pixel_is_left_out() -> None:
    nothing, gap = np.zeros((4, 5), np.int32), np.zeros((4, 5), np.int32)
    gap[1, 2] = 2
    made = kept(instances(nothing), instances(gap))
    assert made["images"] == [{"id": at, "file_name": f"{at - 1}.png", "height": 4, "width": 5} for at in (1, 2)]
    (only,) = made["annotations"]
    assert (only["id"], only["image_id"], only["bbox"], only["score"]) == (1, 2, [2, 1, 1, 1], 0.5)
    assert kept() == {"annotations": [], "images": [], "categories": [{"id": 1, "name": "object"}]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["/x/a.jpg"], ["a.jpg"]),
        (["/x/a.jpg", "/x/b.jpg"], ["a.jpg", "b.jpg"]),
        (["/x/y/a.jpg", "/x/z/a.jpg", "/x/b.jpg"], ["y/a.jpg", "z/a.jpg", "b.jpg"]),
    ],
)
def test_images_are_named_below_the_folder_that_holds_all(given: list[str], expected: list[str]) -> None:
    assert file_names([Path(path) for path in given]) == expected
