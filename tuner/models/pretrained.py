"""The ImageNet weights of an encoder: where they are downloaded from, and how they are adapted to it.

A file is searched in torch's download folder, then in Hugging Face's cache, and else downloaded by
`tuner.data.download`, which resumes, verifies digests and serves torchvision, timm and Hugging Face (or its
mirror) alike. Neither torch.hub (no resume) nor huggingface_hub (its own hosts only) does that; the latter reads
its cache. Only tensors are unpickled.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuner.deprecated import renamed_names
from tuner.errors import PartError, TunerError, first_line, format_names
from tuner.models import ENCODER
from tuner.paths import utf8_path

Tensors = Mapping[str, Tensor]
HUGGING_FACE = "https://huggingface.co"
IN_REPO = "model.safetensors"  # file name in each repository


@dataclass(frozen=True)
class Pretrained:
    """A file of weights by name and address; without a file, there are no weights for `of`.

    `digest` is "sha256:" and a prefix of the file's digest. `adapt` converts the file's tensors to those of the
    given encoder. `repo` is a repository of Hugging Face.
    """

    of: str
    file: str
    url: str
    adapt: Callable[[nn.Module, Tensors], Tensors]
    digest: str = ""
    repo: str = ""
    revision: str = "main"


def imagenet_tensors(model: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Return the ImageNet tensors of the model's encoder under the model's own names, and their origin."""
    pretrained: Pretrained | None = getattr(model, "pretrained", None)
    if pretrained is None:
        raise PartError('this model has no part with ImageNet weights. Write weights="none".')
    if not pretrained.file:
        raise PartError(
            f'there are no ImageNet weights of {pretrained.of}. Choose another, or write weights="none".'
        )
    path = fetch_weights(pretrained)
    tensors = read_tensors(path)
    encoder = model.get_submodule("encoder")
    try:
        with torch.random.fork_rng(devices=[]):  # models built here must not change the trial's random numbers
            adapted = pretrained.adapt(encoder, tensors)
        check_fit(encoder, adapted)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PartError(
            f"{path} does not hold weights of {pretrained.of}: {reason}. Delete or replace it."
        ) from error
    return {ENCODER + key: value for key, value in adapted.items()}, f"{pretrained.of} on ImageNet ({path.name})"


def fetch_weights(pretrained: Pretrained) -> Path:
    """Return the file of torch's folder or of Hugging Face's cache, or else download it."""
    from tuner.data.download import download

    place = Path(torch.hub.get_dir()) / "checkpoints" / pretrained.file
    if place.exists():
        return place
    if pretrained.repo:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(pretrained.repo, IN_REPO, revision=pretrained.revision)
        if isinstance(cached, str):
            return Path(cached)
    try:
        download(pretrained.url, place, digest=pretrained.digest)
    except (TunerError, OSError) as error:
        raise PartError(
            f"the ImageNet weights of {pretrained.of} could not be downloaded: {str(error).rstrip('.')}. "
            f'Offline: download {pretrained.url} elsewhere and put it at {place}, or write weights="none".'
        ) from error
    return place


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a file; PartError if it is damaged, truncated, or holds other objects."""
    try:
        tensors = load_tensors(path)
        tensors = tensors.get("state_dict", tensors)
        if not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ValueError("it holds objects other than tensors")
    except Exception as error:  # each library and kind of damage has its own exception
        raise PartError(
            f"{path} is not a complete file of weights: {first_line(error)[:200]}. "
            "Delete it, so that it is downloaded again."
        ) from error
    return dict(tensors)


def load_tensors(path: Path) -> Any:
    """Load a .safetensors file, or one of torch.save that holds tensors and plain values only."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        with utf8_path(path) as readable:
            return load_file(readable)
    with warnings.catch_warnings(action="ignore"):  # about pickles, which are refused anyway
        return torch.load(path, map_location="cpu", weights_only=True)


def check_fit(encoder: nn.Module, tensors: Tensors) -> None:
    """Raise ValueError unless the tensors are exactly those of the encoder, with their shapes."""
    own = {key: value.shape for key, value in encoder.state_dict().items()}
    wrong = [f"{key} is missing" for key in own.keys() - tensors.keys()]
    wrong += [f"{key} is not a tensor of the encoder" for key in tensors.keys() - own.keys()]
    wrong += [
        f"{key} is {tuple(value.shape)} and should be {tuple(own[key])}"
        for key, value in tensors.items()
        if key in own and value.shape != own[key]
    ]
    if wrong:
        raise ValueError(format_names(sorted(wrong), 3))


def fill_encoder(encoder: nn.Module, tensors: Tensors, prefix: str = "") -> Tensors:
    """Return an encoder's tensors from a file with the same names after `prefix`, ignoring its classifier.

    The first convolution is summed or repeated for other than three channels. Old files lack the batch counters of
    batch norm, which are not used.
    """
    from timm.models import adapt_input_conv

    filled = deepcopy(encoder.state_dict())
    for key, value in filled.items():
        if prefix + key in tensors or not key.endswith("num_batches_tracked"):
            given = tensors[prefix + key]
            is_first = given.ndim == 4 and given.shape[1] == 3 != value.shape[1]
            filled[key] = adapt_input_conv(value.shape[1], given) if is_first else given
    return filled


def torchvision_weights(name: str, adapt: Callable[[nn.Module, Tensors], Tensors] = fill_encoder) -> Pretrained:
    """Return torchvision's first weights from an enum such as "ResNet18_Weights"."""
    import torchvision.models

    url = getattr(torchvision.models, name).IMAGENET1K_V1.url
    file = url.rpartition("/")[2]
    found = re.search(r"-([0-9a-f]{8,})\.", file)
    digest = f"sha256:{found[1]}" if found else ""
    return Pretrained(f"torchvision's {name.removesuffix('_Weights')}", file, url, adapt, digest)


def hf_source(of: str, repo: str, revision: str, adapt: Callable[[nn.Module, Tensors], Tensors]) -> Pretrained:
    """Return the weights of a Hugging Face repository, or of its mirror in HF_ENDPOINT."""
    host = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    file = f"{repo.replace('/', '-')}.safetensors"
    return Pretrained(of, file, f"{host}/{repo}/resolve/{revision}/{IN_REPO}", adapt, repo=repo, revision=revision)


def smp_weights(name: str, channels: int) -> Pretrained:
    """Return the weights of an encoder of segmentation-models-pytorch; with the prefix "tu-", of timm."""
    from segmentation_models_pytorch.encoders import encoders

    if name.startswith("tu-"):
        return timm_source(name.removeprefix("tu-"), partial(fill_tu, channels))
    settings: dict[str, Any] = encoders[name]["pretrained_settings"]
    best = next((tag for tag in settings if tag.startswith("imagenet")), None)
    adapt = partial(fill_smp, name, channels)
    if best is None:
        return Pretrained(f"the encoder '{name}'", "", "", adapt)
    return hf_source(f"the encoder '{name}'", settings[best]["repo_id"], settings[best]["revision"], adapt)


def fill_smp(name: str, channels: int, encoder: nn.Module, tensors: Tensors) -> Tensors:
    """Load the tensors as the library does: it handles old names, classifiers and other channels."""
    from segmentation_models_pytorch.encoders import get_encoder

    fresh = get_encoder(name, in_channels=3, depth=encoder._depth, weights=None)
    fresh.load_state_dict(dict(tensors))
    fresh.set_in_channels(channels, pretrained=True)
    return fresh.state_dict()


def fill_tu(channels: int, encoder: nn.Module, tensors: Tensors) -> Tensors:
    """Load the tensors of a timm model that is used as an encoder."""
    vit = hasattr(encoder, "_output_indices")
    depth = len(encoder._output_indices) if vit else encoder._depth  # type: ignore[arg-type]
    args = {"name": encoder.name, "in_channels": channels, "depth": depth}
    more = {"dynamic_img_size": True} if vit else {}
    return load_by_timm(partial(type(encoder), **args, **more), tensors)


def timm_weights(name: str, args: Mapping[str, Any]) -> Pretrained:
    """Return timm's default weights of a model built with these arguments."""
    from timm import create_model

    return timm_source(name, lambda encoder, tensors: load_by_timm(partial(create_model, name, **args), tensors))


def load_by_timm(create: Callable[..., nn.Module], tensors: Tensors) -> Tensors:
    """Return timm's state dict for a file's tensors; ValueError with tensors left at random values.

    timm does not report tensors that the file lacks: those are found by their difference under another seed.
    """
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(create(pretrained=True, pretrained_cfg_overlay={"state_dict": dict(tensors)}).state_dict())
    if missing := [key for key, value in made[0].items() if not torch.equal(value, made[1][key])]:
        raise ValueError(f"it lacks {format_names(missing, 3)}")
    return made[0]


def timm_source(name: str, adapt: Callable[[nn.Module, Tensors], Tensors]) -> Pretrained:
    """Return where timm's weights of a model are downloaded from, if it has any."""
    from timm import get_pretrained_cfg

    of, known = f"timm's '{name}'", get_pretrained_cfg(name)
    if known is not None and known.hf_hub_id:
        return hf_source(of, known.hf_hub_id, "main", adapt)
    if known is not None and isinstance(known.url, str) and known.url.endswith((".pth", ".safetensors")):
        return Pretrained(of, known.url.rpartition("/")[2], known.url, adapt)
    return Pretrained(of, "", "", adapt)


__getattr__ = renamed_names(__name__)
