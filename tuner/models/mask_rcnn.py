"""torchvision's Mask R-CNN with any of its backbones.

Its transform is left out: batches are normalized already and all images of a batch have one size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.data.instances import Instances
from tuner.errors import PartError
from tuner.models.backbones import BACKBONES, LEVELS, NORMS, make_backbone
from tuner.models.blocks import check_size, check_widths, set_in_channels
from tuner.models.pasting import paste_masks
from tuner.models.pretrained import Pretrained
from tuner.recipe import is_number
from tuner.registry import COUNT, FRACTION, POSITIVE, Range, check_choice, check_range

STRIDE = 32  # of the deepest feature: the smallest image
NUM_LEVELS = len(LEVELS) + 1  # of the pyramid, and a coarser one for proposals only
NUM_PROPOSED = 1000  # regions per level and per image
VALIDATION_SEED = 0  # for the random sampling of a validation loss, to make it reproducible
Losses = dict[str, Tensor]
Truth = list[dict[str, Tensor]]


def mask_rcnn(
    channels: int,
    classes: int,
    *,
    backbone: str = "resnet50",
    k: int = 256,
    norm: str = "batch",
    anchor: float | Sequence[float] = 16,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    num_regions: int = 128,
    score: float = 0.05,
    nms: float = 0.5,
    mask: float = 0.5,
    num_found: int = 200,
) -> nn.Module:
    """torchvision's Mask R-CNN with a ResNet, ResNeXt, wide ResNet or MobileNet, and its own losses.

    `k` is the width of pyramid and heads. `anchor` is the side of the smallest anchor in pixels, doubled from
    level to level, or a list of five; `ratios` are height to width. `num_regions` per image are sampled for the
    losses of a step. Detections have a score above `score`; of two with an overlap above `nms`, the better one is
    kept, up to `num_found` per image, with the mask pixels above `mask`. `norm`: "batch", "group" for batches of
    one or two from scratch, or "frozen", which keeps ImageNet's statistics.
    """
    check_choice("backbone of model 'mask_rcnn'", backbone, BACKBONES)
    check_choice("norm of model 'mask_rcnn'", norm, NORMS)
    sides = anchor_sides(anchor)
    check_widths(k=k)
    if not (isinstance(ratios, list | tuple) and ratios and all(ratio in POSITIVE for ratio in ratios)):
        raise PartError(f"ratios of model 'mask_rcnn' are {ratios!r}; write numbers above 0, such as [0.5, 1, 2].")
    check_range("model 'mask_rcnn'", COUNT, num_regions=num_regions, num_found=num_found)
    check_range("model 'mask_rcnn'", FRACTION, score=score, nms=nms, mask=mask)
    net, pretrained = make_backbone(backbone, norm, k)
    set_in_channels(net.body, channels)
    parts = make_parts(
        net,
        sides,
        tuple(float(ratio) for ratio in ratios),
        box_batch_size_per_image=num_regions,
        box_score_thresh=score,
        box_nms_thresh=nms,
        box_detections_per_img=num_found,
    )
    return MaskRCNN(parts, mask, pretrained)


@dataclass(frozen=True)
class Detections:
    """The detections in one image, best first.

    `size` is (height, width), a box (left, top, right, bottom), a mask the pixels within its box.
    """

    size: tuple[int, int]
    boxes: Tensor  # number x 4
    scores: Tensor
    masks: Tensor  # number x 28 x 28


@dataclass(frozen=True)
class FeatureBatch:
    """The input of the heads: torchvision's image list, and the features by level."""

    images: Any
    features: dict[str, Tensor]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return cast(list[tuple[int, int]], self.images.image_sizes)


class MaskRCNN(nn.Module):
    """An encoder, a feature pyramid, a region proposal network and heads.

    The backbone runs in the surrounding precision, everything after it in full precision: boxes need it.
    """

    multiple = STRIDE  # images are padded to a multiple of it

    def __init__(self, parts: Any, mask: float, pretrained: Pretrained) -> None:
        super().__init__()
        self.encoder, self.pyramid = parts.backbone.body, parts.backbone.fpn
        self.rpn, self.roi_heads = parts.rpn, parts.roi_heads
        self.mask, self.pretrained = mask, pretrained
        self.explained = {"encoder": "encoder", "pyramid": "pyramid.layer_blocks.0"}

    def forward(self, image: Tensor) -> list[Detections]:
        """Return the detections in each image, in training and in eval mode."""
        seen = self.compute_features(image)
        with full_precision(image):
            return self.detect(seen, self.propose(seen))

    def losses(self, image: Tensor, target: Tensor) -> tuple[Losses, list[Detections] | None]:
        """Return five losses, each a mean over the batch; in eval mode also the detections, reproducibly."""
        seen, truth = self.compute_features(image), make_truth(target)
        with full_precision(image):
            if self.training:
                return self.compute_losses(seen, truth)[0], None
            there = range(torch.cuda.device_count()) if image.is_cuda else ()
            with torch.random.fork_rng(devices=there):
                torch.manual_seed(VALIDATION_SEED)
                losses, proposals = self.compute_losses(seen, truth)
            return losses, self.detect(seen, proposals)

    def instances(
        self, answer: Sequence[Detections], sizes: Sequence[tuple[int, int]] | None = None
    ) -> list[Instances]:
        """Return the label map of each image, at its own size or at the given (height, width)."""
        wanted = [one.size for one in answer] if sizes is None else sizes
        return [make_instances(one, size, self.mask) for one, size in zip(answer, wanted, strict=True)]

    def probe(self, image: Tensor) -> Tensor:
        """Return the finest pyramid level: the part that runs on the meta device."""
        return self.compute_features(image).features[LEVELS[0]]

    def evidence(self, image: Tensor) -> Tensor:
        """Return the evidence for objects in each image, number x 1.

        It is the sum of the logits of all detections, or without any, the logit of the best proposal.
        """
        seen = self.compute_features(image)
        with full_precision(image):
            with torch.no_grad():
                proposals = self.propose(seen)
                found = self.detect(seen, proposals)
            has = [len(one.boxes) > 0 for one in found]
            boxes = [one.boxes if any_ else each for one, each, any_ in zip(found, proposals, has, strict=True)]
            sure = self.object_logits(seen, boxes)
        each = [logits.sum() if any_ else logits.max() for logits, any_ in zip(sure, has, strict=True)]
        return torch.stack(each)[:, None]

    def compute_features(self, image: Tensor) -> FeatureBatch:
        """Return the features of a batch, padded at the right and bottom.

        Batch norm cannot normalize a single value per channel: a single image that leads to one is run twice as a
        batch, which changes neither its output nor its gradients.
        """
        from torchvision.models.detection.image_list import ImageList

        check_size("mask_rcnn", image, STRIDE)
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        alone = len(image) == 1 and padded.shape[-2:] == (STRIDE, STRIDE)
        features = self.pyramid(self.encoder(torch.cat([padded, padded]) if alone else padded))
        full = {level: feature[: len(image)].float() for level, feature in features.items()}
        return FeatureBatch(ImageList(padded, [(height, width)] * len(image)), full)

    def propose(self, seen: FeatureBatch) -> list[Tensor]:
        with set_mode(self.rpn, training=False):
            proposals, _ = self.rpn(seen.images, seen.features)
        return ensure_proposals(proposals, seen.sizes)

    def compute_losses(self, seen: FeatureBatch, truth: Truth) -> tuple[Losses, list[Tensor]]:
        """Return the losses and the proposed regions, which do not depend on the truth."""
        with set_mode(self.rpn, training=True), set_mode(self.roi_heads, training=True):
            proposals, of_regions = self.rpn(seen.images, seen.features, truth)
            proposals = ensure_proposals(proposals, seen.sizes)
            _, of_heads = self.roi_heads(seen.features, proposals, seen.sizes, truth)
        return {**of_regions, **of_heads}, proposals

    def detect(self, seen: FeatureBatch, proposals: list[Tensor]) -> list[Detections]:
        with set_mode(self.roi_heads, training=False):
            answer, _ = self.roi_heads(seen.features, proposals, seen.sizes)
        return [
            Detections(size, one["boxes"], one["scores"], one["masks"][:, 0])
            for size, one in zip(seen.sizes, answer, strict=True)
        ]

    def object_logits(self, seen: FeatureBatch, boxes: list[Tensor]) -> list[Tensor]:
        """Return the logit of an object in each box of each image."""
        heads = cast(Any, self.roi_heads)
        logits, _ = heads.box_predictor(heads.box_head(heads.box_roi_pool(seen.features, boxes, seen.sizes)))
        return list((logits[:, 1] - logits[:, 0]).split([len(each) for each in boxes]))


# --- predictions and targets ---


def make_instances(one: Detections, size: tuple[int, int], least: float) -> Instances:
    boxes, scores, masks = (each.detach().float().cpu().numpy() for each in (one.boxes, one.scores, one.masks))
    return paste_masks(boxes, scores, masks, one.size, size, least)


def make_truth(target: Tensor) -> Truth:
    """Return box, mask and class of each instance of each image, from number x 4 x height x width.

    Numbers without pixels are ignored. Boxes end after their last pixel, so that one pixel has an area.
    """
    from torchvision.ops import masks_to_boxes

    truth = []
    for labels in target[:, 0].long():
        numbers = labels.unique()
        masks = labels == numbers[numbers > 0, None, None]
        boxes = masks_to_boxes(masks)
        boxes[:, 2:] += 1
        truth.append({"boxes": boxes, "masks": masks, "labels": boxes.new_ones(len(boxes), dtype=torch.long)})
    return truth


def ensure_proposals(proposals: list[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Return the proposals, or the whole image where there are none: the mean over no regions is NaN."""
    return [
        boxes if len(boxes) else boxes.new_tensor([[0, 0, width, height]])
        for boxes, (height, width) in zip(proposals, sizes, strict=True)
    ]


@contextmanager
def set_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Set the mode of this module only; torchvision's parts compute losses in training mode."""
    before, module.training = module.training, training
    try:
        yield
    finally:
        module.training = before


def full_precision(image: Tensor) -> torch.autocast:
    return torch.autocast(image.device.type, enabled=False)


# --- parts of the model ---


def make_parts(backbone: Any, sides: Sequence[float], ratios: tuple[float, ...], **settings: Any) -> Any:
    """Return torchvision's model on a backbone, for background and one class; at k=256 with torchvision's widths.

    It proposes as many regions in training as in eval mode, so that one pass gives losses and detections.
    """
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import RPNHead

    k = backbone.out_channels
    return MaskRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in sides), (ratios,) * len(sides)),
        rpn_head=RPNHead(k, len(ratios)),
        rpn_pre_nms_top_n_train=NUM_PROPOSED,
        rpn_pre_nms_top_n_test=NUM_PROPOSED,
        rpn_post_nms_top_n_train=NUM_PROPOSED,
        rpn_post_nms_top_n_test=NUM_PROPOSED,
        box_head=TwoMLPHead(k * 7 * 7, 4 * k),
        box_predictor=FastRCNNPredictor(4 * k, 2),
        mask_head=MaskRCNNHeads(k, (k,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(k, k, 2),
        **settings,
    )


def anchor_sides(anchor: object) -> list[float]:
    """Return the side of the anchors of each level, in pixels."""
    sides = [anchor * 2**level for level in range(NUM_LEVELS)] if is_number(anchor) else anchor
    if isinstance(sides, list | tuple) and len(sides) == NUM_LEVELS and all(s in Range(least=1) for s in sides):
        return list(sides)
    raise PartError(
        f"anchor of model 'mask_rcnn' is {anchor!r}; a side in pixels of at least 1 is needed, or one for each of "
        f"{NUM_LEVELS} levels, such as [8, 16, 32, 64, 128]."
    )
