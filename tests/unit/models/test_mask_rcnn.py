"""Mask R-CNN: torchvision's own, with the same weights; what is learned from; bad input and bad arguments."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import MaskRCNN as Theirs
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from tuner.data.instances import make_energy_targets, match_instances
from tuner.errors import PartError
from tuner.models.backbones import BACKBONES
from tuner.models.mask_rcnn import MaskRCNN, make_truth, mask_rcnn

Labels = NDArray[np.uint16]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def model_of(**args: Any) -> MaskRCNN:
    torch.manual_seed(0)
    made = mask_rcnn(3, 1, **{"backbone": "resnet18", "k": 16, "anchor": 8, **args})
    assert isinstance(made, MaskRCNN)
    return made


def discs(*places: tuple[int, int, int], side: int = 64) -> Labels:
    labels = np.zeros((side, side), np.uint16)
    for number, (y, x, radius) in enumerate(places, start=1):
        labels[np.hypot(*np.ogrid[-y : side - y, -x : side - x]) < radius] = number
    return labels


def target_of(*labels: Labels) -> Tensor:
    return torch.from_numpy(make_energy_targets(np.stack(labels)))


TWO = target_of(discs((20, 16, 11), (24, 38, 12), (46, 30, 11)), discs((30, 30, 14), (8, 55, 1)))


# --- it is torchvision's ---


@pytest.fixture(scope="module")
def both() -> tuple[MaskRCNN, Any]:
    """Ours and theirs, with the same weights; their transform leaves the image as it is."""
    ours = model_of(k=256, anchor=16, num_regions=64, num_found=50, score=0.5)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d)
    theirs = Theirs(
        backbone,
        2,
        min_size=64,
        max_size=64,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=1000,
        box_score_thresh=0.5,
        box_batch_size_per_image=64,
        box_detections_per_img=50,
    )
    theirs.transform.torch_choice = lambda sizes: sizes[0]  # of the one size it would draw one
    theirs.load_state_dict(
        {
            key.replace("encoder.", "backbone.body.").replace("pyramid.", "backbone.fpn."): value
            for key, value in ours.state_dict().items()
        }
    )
    return ours, theirs


@pytest.mark.slow
def test_it_finds_what_torchvision_finds(both: tuple[MaskRCNN, Any]) -> None:
    ours, theirs = (model.eval() for model in both)
    with torch.no_grad():
        found, expected = ours(IMAGES), theirs(list(IMAGES))
    assert sum(len(one.boxes) for one in found) > 20
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.boxes, other["boxes"])
        torch.testing.assert_close(one.scores, other["scores"])


def test_its_losses_are_those_of_torchvision(both: tuple[MaskRCNN, Any]) -> None:
    ours, theirs = (model.train() for model in both)
    torch.manual_seed(3)
    losses, answer = ours.losses(IMAGES, TWO)
    torch.manual_seed(3)
    expected = theirs(list(IMAGES), make_truth(TWO))
    assert answer is None and set(losses) == set(expected) and len(losses) == 5
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


TRIED = ("resnet18", "resnext50_32x4d", "mobilenet_v3_small")  # one of each family, the others in `make test-all`


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in TRIED else pytest.mark.slow) for name in BACKBONES]
)
def test_every_backbone_gives_features_at_four_sizes_and_weights_of_its_own(name: str) -> None:
    with torch.device("meta"):
        model = model_of(backbone=name)
        features = model.compute_features(torch.empty(2, 3, 128, 192)).features
    assert [tuple(f.shape) for f in features.values()] == [
        (2, 16, 128 // stride, 192 // stride) for stride in (4, 8, 16, 32, 64)
    ]
    assert model.pretrained.file.startswith(name.split("_3")[0].split("_6")[0])


@pytest.mark.parametrize(("norm", "kind"), [("batch", "BatchNorm2d"), ("group", "GroupNorm")])
def test_the_norm_is_the_one_asked_for(norm: str, kind: str) -> None:
    for backbone in ("resnet18", "mobilenet_v3_small"):
        kinds = {type(m).__name__ for m in model_of(backbone=backbone, norm=norm).modules()}
        assert {k for k in kinds if "Norm2d" in k or "GroupNorm" in k} == {kind}


def test_frozen_statistics_are_no_parameters_and_stay() -> None:
    model = model_of(norm="frozen")
    assert not [name for name, _ in model.named_parameters() if ".bn" in name]
    before = {key: value.clone() for key, value in model.state_dict().items() if ".bn" in key}
    model.losses(IMAGES, TWO)
    assert before and all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


# --- what it learns from ---


def test_the_truth_is_a_box_a_mask_and_a_class_of_each_instance_that_has_a_pixel() -> None:
    labels = np.zeros((16, 16), np.uint16)
    labels[2:5, 3:9], labels[7, 7] = 1, 5  # a gap, and a single pixel
    one, none = make_truth(target_of(labels, np.zeros_like(labels)))
    assert one["boxes"].tolist() == [[3, 2, 9, 5], [7, 7, 8, 8]]
    assert one["masks"].sum((1, 2)).tolist() == [18, 1] and one["labels"].tolist() == [1, 1]
    assert none["boxes"].shape == (0, 4) and none["masks"].shape == (0, 16, 16) and none["labels"].shape == (0,)


def trained(model: MaskRCNN, images: Tensor, target: Tensor, steps: int, lr: float = 3e-3) -> MaskRCNN:
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(model.losses(images, target)[0].values())).sum().backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def bright(target: Tensor) -> Tensor:
    """An image in which instances are brighter than what is around, each in its own grey, under some noise."""
    labels = target[:, :1]
    noise = torch.randn(len(target), 3, *labels.shape[-2:], generator=torch.Generator().manual_seed(2))
    return (labels > 0) * (1 + 0.3 * labels) - 1 + 0.2 * noise


@pytest.mark.slow
def test_it_learns_to_tell_touching_discs_apart() -> None:
    target = target_of(discs((20, 16, 11), (24, 38, 12), (46, 30, 11)), discs((14, 44, 12), (44, 22, 13)))
    model = trained(model_of(num_regions=64, score=0.5), bright(target), target, steps=50)
    with torch.no_grad():
        answer = model(bright(target))
    sizes = [(64, 64), (128, 96)]
    for found, large, true in zip(
        model.instances(answer), model.instances(answer, sizes[1:] * 2), target, strict=True
    ):
        labels = true[0].numpy().astype(np.int32)
        compared = match_instances(found.labels, labels)
        assert len(compared.pairs) == labels.max() and not compared.wrong
        assert all(iou > 0.75 for _, _, iou in compared.pairs)
        wide = np.repeat(labels, 2, 0)[:, np.arange(96) * 64 // 96]
        assert large.labels.shape == sizes[1] and len(match_instances(large.labels, wide).pairs) == labels.max()


@pytest.mark.slow
def test_from_images_without_instances_it_learns_to_find_none() -> None:
    none = torch.zeros(2, 4, 64, 64)
    model = trained(model_of(), bright(none), none, steps=12)
    with torch.no_grad():
        losses, answer = model.losses(bright(none), none)
    assert losses["loss_mask"] == losses["loss_box_reg"] == 0 and all(
        value.isfinite() for value in losses.values()
    )
    assert answer is not None and all(not found.labels.any() for found in model.instances(answer))


def test_where_every_proposal_falls_out_of_the_image_the_losses_are_numbers() -> None:
    model = model_of()
    rpn: Any = model.rpn
    with torch.no_grad():
        rpn.head.bbox_pred.bias.view(-1, 4)[:, :2] = 1e4
    for mode in (True, False):
        for truth in (TWO, torch.zeros_like(TWO)):
            losses, answer = model.train(mode).losses(IMAGES, truth)
            assert all(value.isfinite() for value in losses.values())
    assert answer is not None and len(model.instances(answer)) == 2
    assert model.evidence(IMAGES).isfinite().all()


def test_a_validation_loss_has_what_is_found_beside_it_from_one_pass() -> None:
    model, calls = model_of().eval(), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        _, found = model.losses(IMAGES, TWO)
        expected = model(IMAGES)
    assert len(calls) == 2 and found is not None
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.boxes, other.boxes) and torch.equal(one.masks, other.masks)
    assert not model.rpn.training and not model.roi_heads.training


def test_frozen_heads_still_give_losses() -> None:
    model = model_of()
    model.rpn.eval()
    model.roi_heads.eval()
    assert len(model.losses(IMAGES, TWO)[0]) == 5
    assert not model.rpn.training and not model.roi_heads.training


# --- what is found, and how much ---


@pytest.mark.slow
def test_more_score_finds_less_and_no_more_is_found_than_asked_for() -> None:
    def number(**args: Any) -> int:
        with torch.no_grad():
            return sum(len(one.boxes) for one in model_of(**args).eval()(IMAGES))

    numbers = [number(score=score) for score in (0.05, 0.5, 0.99)]
    assert all(more >= fewer for more, fewer in pairwise(numbers)) and numbers[0] > numbers[-1] == 0
    assert number(num_found=3) == 6
    assert number(nms=0.1) < number(nms=0.9)


def test_anchors_double_from_level_to_level_or_are_as_given() -> None:
    def sides(anchor: Any) -> Any:
        rpn: Any = model_of(anchor=anchor).rpn
        return [side for (side,) in rpn.anchor_generator.sizes]

    assert sides(12) == [12, 24, 48, 96, 192]
    assert sides([5, 10, 11, 12, 60.5]) == [5, 10, 11, 12, 60.5]


def test_evidence_is_of_what_is_found_and_else_of_the_surest_proposal() -> None:
    sure, unsure = model_of(score=0.0).eval(), model_of(score=0.99).eval()
    for model in (sure, unsure):
        assert model.evidence(IMAGES).shape == (2, 1)
    with torch.no_grad():
        (logits, _) = sure.object_logits(sure.compute_features(IMAGES), [one.boxes for one in sure(IMAGES)])
        assert not any(len(one.boxes) for one in unsure(IMAGES))
    torch.testing.assert_close(sure.evidence(IMAGES)[0, 0], logits.sum())


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"backbone": "resnet19"},
        r"backbone of model 'mask_rcnn' is 'resnet19'\. Did you mean 'resnet1\d\d?'\? Known: ",
    ),
    ({"backbone": "mobilenet"}, r"is 'mobilenet'\. Did you mean 'mobilenet_v2'\?"),
    ({"backbone": 3}, r"backbone of model 'mask_rcnn' is 3\. Known: resnet18, "),
    (
        {"norm": "bach"},
        r"norm of model 'mask_rcnn' is 'bach'\. Did you mean 'batch'\? Known: batch, group, frozen",
    ),
    ({"anchor": 0.5}, r"anchor of model 'mask_rcnn' is 0\.5; a side in pixels of at least 1"),
    ({"anchor": [8, 16]}, r"anchor of model 'mask_rcnn' is \[8, 16\]; .* one for each of 5 levels"),
    ({"anchor": [8, 16, 32, 64, "x"]}, r"such as \[8, 16, 32, 64, 128\]"),
    ({"anchor": "small"}, r"anchor of model 'mask_rcnn' is 'small'"),
    ({"ratios": []}, r"ratios of model 'mask_rcnn' are \[\]; write numbers above 0"),
    ({"ratios": [1, -1]}, r"ratios of model 'mask_rcnn' are \[1, -1\]"),
    ({"ratios": 1.0}, r"ratios of model 'mask_rcnn' are 1\.0"),
    ({"score": 1.0}, r"score of model 'mask_rcnn' is 1\.0; a number of at least 0 and below 1 is needed"),
    ({"nms": "half"}, r"nms of model 'mask_rcnn' is 'half'"),
    ({"mask": -0.1}, r"mask of model 'mask_rcnn' is -0\.1"),
    ({"num_found": 0}, r"num_found of model 'mask_rcnn' is 0; a whole number of at least 1"),
    ({"num_regions": 2.5}, r"num_regions of model 'mask_rcnn' is 2\.5"),
]


@pytest.mark.parametrize(("args", "told"), WRONG, ids=str)
def test_a_bad_argument_is_one_line(args: dict[str, Any], told: str) -> None:
    with pytest.raises(PartError, match=told) as caught:
        model_of(**args)
    assert "\n" not in str(caught.value)


def test_an_image_that_is_too_small_is_told() -> None:
    with pytest.raises(ValueError, match=r"31 x 40 is too small for 'mask_rcnn': at least 32 x 32 is needed"):
        model_of().probe(torch.zeros(1, 3, 31, 40))
