"""ImageNet weights: found where libraries keep them, downloaded, checked, and the encoder's own afterwards.

The files are small random ones in the very format of the real ones, under their names and in their places.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.file_server import mirror
from safetensors.torch import save_file
from torch import Tensor, nn

from tuner.errors import PartError
from tuner.models import MODELS
from tuner.models.pretrained import Pretrained, imagenet_tensors
from tuner.recipe import Part
from tuner.registry import build

IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def slow(*values: Any) -> Any:
    """A second case, for `make test-all`."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch and Hugging Face; the folder in which torch keeps its files."""
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nothing answers
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def model_of(name: str, /, channels: int = 3, classes: int = 2, **args: Any) -> Any:
    torch.manual_seed(0)
    return build("model", MODELS, Part(name, args), channels, classes)


def shaken(model: Any) -> Any:
    """With weights and statistics of its own, as a trained one has, and in eval mode."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("weight", "bias", "running_mean", "running_var")) and value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model.eval()


def place(hub: Path, model: Any, source: nn.Module, **how: Any) -> Path:
    """The weights of `source` as the file that `model` will look for."""
    path = hub / model.pretrained.file
    tensors = {key: value.contiguous() for key, value in source.state_dict().items()}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path, **how)
    return path


def started(model: Any) -> Any:
    """The model with its ImageNet weights in it."""
    tensors, _ = imagenet_tensors(model)
    left = model.load_state_dict(tensors, strict=False)
    assert not left.unexpected_keys and not [key for key in left.missing_keys if key.startswith("encoder.")]
    return model.eval()


def last(features: Any) -> Tensor:
    return features if isinstance(features, Tensor) else features[-1]


@cache
def resnet(kind: str = "resnet18") -> Any:
    """Not to be changed: the tests share it."""
    from torchvision import models

    return shaken(getattr(models, kind)(num_classes=4))


def seen_by_resnet(net: Any, image: Tensor) -> Tensor:
    x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
    return net.layer4(net.layer3(net.layer2(net.layer1(x))))


@pytest.mark.parametrize("new", [True, slow(False)], ids=["zip", "legacy"])
def test_a_resnet_of_torchvision_becomes_the_encoder(hub: Path, new: bool) -> None:
    net, model = resnet(), model_of("resnet18_unet", k=1)
    place(hub, model, net, _use_new_zipfile_serialization=new)
    tensors, where = imagenet_tensors(model)
    assert where == "torchvision's ResNet18 on ImageNet (resnet18-f37072fd.pth)"
    assert all(key.startswith("encoder.") for key in tensors)
    with torch.no_grad():
        torch.testing.assert_close(last(started(model).encoder(IMAGE)), seen_by_resnet(net, IMAGE))


@pytest.mark.slow
def test_a_resnet34_becomes_an_encoder(hub: Path) -> None:
    net, model = resnet("resnet34"), model_of("resnet34_unet", k=1)
    place(hub, model, net)
    with torch.no_grad():
        torch.testing.assert_close(last(started(model).encoder(IMAGE)), seen_by_resnet(net, IMAGE))


def test_a_mobilenet_becomes_an_encoder(hub: Path) -> None:
    from torchvision.models import mobilenet_v2

    net, model = shaken(mobilenet_v2(num_classes=4)), model_of("mobilenet_unet", k=1)
    place(hub, model, net)
    with torch.no_grad():
        torch.testing.assert_close(last(started(model).encoder(IMAGE)), net.features(IMAGE))


def test_folded_batch_norm_is_the_same_network(hub: Path) -> None:
    """All features, not only the last, of the encoder without batch norm are those of the one with it."""
    net, model, normed = resnet(), model_of("resnet18_unet", k=1, batch_norm=False), model_of("resnet18_unet", k=1)
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    place(hub, model, net)
    with torch.no_grad():
        folded, unfolded = started(model).encoder(IMAGE), started(normed).encoder(IMAGE)
    for one, other in zip(folded, unfolded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_fcn_with_these_weights_is_the_one_of_torchvision(hub: Path) -> None:
    from torchvision.models.segmentation import fcn_resnet50

    model, theirs = model_of("fcn_resnet50"), fcn_resnet50(weights=None, weights_backbone=None, num_classes=2)
    theirs.eval()
    place(hub, model, theirs.backbone)
    started(model).head.load_state_dict(theirs.classifier.state_dict())
    odd = IMAGE[:, :, :41, :50]
    with torch.no_grad():
        torch.testing.assert_close(model(odd), theirs(odd)["out"])


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [
        ("resnet18", "frozen"),
        ("mobilenet_v3_small", "batch"),
        slow("resnet18", "batch"),
        slow("mobilenet_v3_small", "frozen"),
        slow("mobilenet_v2", "batch"),
        slow("mobilenet_v2", "frozen"),
    ],
)
def test_the_backbones_of_mask_rcnn_take_their_own_files(hub: Path, backbone: str, norm: str) -> None:
    from torchvision import models

    net, model = (
        shaken(models.get_model(backbone, num_classes=4)),
        model_of("mask_rcnn", backbone=backbone, norm=norm),
    )
    place(hub, model, net)
    seen = seen_by_resnet(net, IMAGE) if backbone == "resnet18" else net.features(IMAGE)
    with torch.no_grad():
        torch.testing.assert_close(started(model).encoder(IMAGE)["3"], seen, rtol=1e-3, atol=1e-4)


def test_there_are_no_weights_for_another_norm_than_the_trained_one() -> None:
    with pytest.raises(PartError, match=r"no ImageNet weights of 'resnet18' with norm='group'\. Choose another"):
        imagenet_tensors(model_of("mask_rcnn", backbone="resnet18", norm="group"))


def test_sport_vgg_takes_the_first_36_layers_of_vgg19(hub: Path) -> None:
    from torchvision.models.vgg import cfgs, make_layers

    model, features = model_of("sport_vgg", reduced=1, hidden=1), make_layers(cfgs["E"])
    place(hub, model, nn.ModuleDict({"features": features, "classifier": nn.Sequential(nn.Linear(2, 2))}))
    with torch.no_grad():
        torch.testing.assert_close(started(model).encoder(IMAGE), features[:36](IMAGE))
    assert len(model.encoder) == 36 and len(model.encoder[:-10]) == 26


@pytest.mark.parametrize("channels", [1, slow(6)])
def test_grey_images_and_more_channels_see_what_three_would(hub: Path, channels: int) -> None:
    """Equal channels are the same image, however many there are."""
    net, model = resnet(), model_of("resnet18_unet", channels, k=1)
    place(hub, model, net)
    grey = IMAGE[:, :1]
    with torch.no_grad():
        found = last(started(model).encoder(grey.expand(-1, channels, -1, -1)))
        torch.testing.assert_close(found, seen_by_resnet(net, grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


def test_a_fourth_channel_is_seen_as_the_first_is(hub: Path) -> None:
    net, model = resnet(), model_of("resnet18_unet", 4, k=1)
    place(hub, model, net)
    first = imagenet_tensors(model)[0]["encoder.conv1.weight"]
    torch.testing.assert_close(first, net.conv1.weight.detach()[:, [0, 1, 2, 0]] * 3 / 4)


@pytest.mark.parametrize("encoder", ["mobilenet_v2", slow("mobileone_s0"), slow("timm-skresnet18")])
def test_encoders_of_smp_take_their_own_files(hub: Path, encoder: str) -> None:
    from segmentation_models_pytorch.encoders import get_encoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, model = shaken(get_encoder(encoder, weights=None)), model_of("smp", encoder=encoder)
        assert place(hub, model, source).name.startswith("smp-hub-")
        with torch.no_grad():
            torch.testing.assert_close(last(started(model).encoder(IMAGE)), last(source(IMAGE)))


def test_segformer_takes_the_file_of_its_size(hub: Path) -> None:
    from segmentation_models_pytorch.encoders import get_encoder

    source, model = shaken(get_encoder("mit_b0", weights=None)), model_of("segformer", width=4)
    assert place(hub, model, source).name == "smp-hub-mit_b0.imagenet.safetensors"
    with torch.no_grad():
        torch.testing.assert_close(last(started(model).encoder(IMAGE)), last(source(IMAGE)))


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [slow("unet", "tu-test_resnet"), ("deeplabv3", "tu-test_resnet"), ("dpt", "tu-test_vit")],
)
def test_encoders_of_timm_in_smp_take_the_files_of_timm(hub: Path, architecture: str, encoder: str) -> None:
    from timm import create_model

    model = model_of("smp", architecture=architecture, encoder=encoder)
    source = create_model(encoder.removeprefix("tu-"))
    place(hub, model, source)
    given = source.state_dict()
    carried = [
        torch.equal(value, given[name])
        for key, value in imagenet_tensors(model)[0].items()
        if (name := key.removeprefix("encoder.model.")) in given and value.shape == given[name].shape
    ]
    assert all(carried) and len(carried) > 20


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", slow("test_efficientnet"), slow("test_convnext")])
def test_classifiers_of_timm_take_all_but_the_head(hub: Path, name: str) -> None:
    from timm import create_model

    source, model = create_model(name, num_classes=1000).eval(), model_of("timm", name=name)
    place(hub, model, source)
    assert model.pretrained.file.startswith("timm-test_")
    image = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        seen = source.forward_head(source.forward_features(image), pre_logits=True)
        torch.testing.assert_close(started(model).encoder(image), seen)


def test_what_is_built_on_the_way_changes_no_draw_of_the_trial(hub: Path) -> None:
    model = model_of("timm", name="test_resnet")
    place(hub, model, model.encoder)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    imagenet_tensors(model)
    assert torch.equal(torch.rand(3), expected)


def test_a_file_in_the_cache_of_hugging_face_is_taken_from_there(tmp_path: Path) -> None:
    model = model_of("timm", name="test_resnet")
    repo = tmp_path / "hf" / "models--timm--test_resnet.r160_in1k"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "snapshots" / "abc").mkdir(parents=True)
    save_file(model.encoder.state_dict(), repo / "snapshots" / "abc" / "model.safetensors")
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in imagenet_tensors(model)[0].items())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_missing_file_is_downloaded_once(hub: Path, tmp_path: Path) -> None:
    from hashlib import sha256

    net, model = resnet(), model_of("resnet18_unet", k=1)
    path = place(hub, model, net)
    content = path.read_bytes()
    path.unlink()
    with mirror(files={"/w.pth": content}) as served:
        digest = "sha256:" + sha256(content).hexdigest()[:8]
        model.pretrained = replace(model.pretrained, url=f"{served.url}/w.pth", digest=digest)
        imagenet_tensors(model)
    imagenet_tensors(model)  # the server is gone
    assert files(hub) == ["resnet18-f37072fd.pth"]


def test_a_download_that_is_another_file_is_refused(hub: Path) -> None:
    model = model_of("resnet18_unet", k=1)
    with mirror(files={"/w.pth": b"something else"}) as served:
        model.pretrained = replace(model.pretrained, url=f"{served.url}/w.pth")
        with pytest.raises(PartError, match="f37072fd"):
            imagenet_tensors(model)
    assert files(hub) == []


def test_the_mirror_of_hugging_face_is_asked_where_one_is_set(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = model_of("timm", name="test_resnet")
    content = place(hub, source, source.encoder).read_bytes()
    (hub / source.pretrained.file).unlink()
    address = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    with mirror(files={address: content}) as served:
        monkeypatch.setenv("HF_ENDPOINT", f"{served.url}/")
        imagenet_tensors(model_of("timm", name="test_resnet"))
    assert files(hub) == ["timm-test_resnet.r160_in1k.safetensors"]


def test_without_internet_the_file_its_address_and_its_place_are_named(hub: Path) -> None:
    model = model_of("timm", name="test_resnet")
    with pytest.raises(PartError) as caught:
        imagenet_tensors(model)
    said = str(caught.value)
    assert "\n" not in said and "timm's 'test_resnet'" in said and 'weights="none"' in said
    assert (
        f"download {model.pretrained.url} elsewhere" in said and f"put it at {hub / model.pretrained.file}" in said
    )


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("timm", damage) for damage in ("cut", "empty", "page")),
        ("resnet18_unet", "cut"),
        *(slow("resnet18_unet", damage) for damage in ("empty", "page")),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(hub: Path, name: str, damage: str) -> None:
    model = model_of("timm", name="test_resnet") if name == "timm" else model_of(name, k=1)
    path = place(hub, model, model.encoder)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "page": b"<html>not found</html>"}[damage])
    with pytest.raises(PartError, match=r"not a complete file of weights: .* Delete it") as caught:
        imagenet_tensors(model)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def test_nothing_in_a_file_is_run(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = model_of("resnet18_unet", k=1)
    torch.save({"conv1.weight": Evil()}, hub / model.pretrained.file)
    with pytest.raises(PartError, match="not a complete file of weights"):
        imagenet_tensors(model)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("name", "args", "lacks"),
    [
        ("resnet18_unet", {"k": 1}, "conv1.weight"),
        ("resnet18_unet", {"k": 1, "batch_norm": False}, "conv1.weight"),
        ("segformer", {"width": 4}, "Missing key"),
        ("timm", {"name": "test_resnet"}, "it lacks"),
    ],
)
def test_weights_of_another_network_are_one_line(hub: Path, name: str, args: dict[str, Any], lacks: str) -> None:
    model = model_of(name, **args)
    place(hub, model, nn.Conv2d(3, 4, 1))
    with pytest.raises(PartError, match=f"does not hold weights of .*{lacks}") as caught:
        imagenet_tensors(model)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_tensor_of_another_shape_is_named(hub: Path) -> None:
    model = model_of("resnet18_unet", k=1)
    place(hub, model, resnet())
    wide = torch.load(hub / model.pretrained.file, weights_only=True)
    wide["layer1.0.conv1.weight"] = torch.zeros(2, 2, 3, 3)
    torch.save(wide, hub / model.pretrained.file)
    with pytest.raises(PartError, match=r"layer1.0.conv1.weight is \(2, 2, 3, 3\) and should be \(64, 64, 3, 3\)"):
        imagenet_tensors(model)


def test_a_model_without_an_encoder_has_no_imagenet_weights() -> None:
    with pytest.raises(PartError, match=r'no part with ImageNet weights. Write weights="none"'):
        imagenet_tensors(model_of("unet", k=1))


def test_a_name_of_timm_or_smp_without_weights_is_told() -> None:
    with pytest.raises(PartError, match="no ImageNet weights of timm's 'test_maxvit'"):
        imagenet_tensors(model_of("timm", name="test_maxvit"))
    nameless = Pretrained("the encoder 'x'", "", "", lambda encoder, tensors: tensors)
    model = model_of("unet", k=1)
    model.pretrained = nameless
    with pytest.raises(PartError, match="no ImageNet weights of the encoder 'x'"):
        imagenet_tensors(model)
