"""Scenes: from a count of classes to a ResNet-18 U-Net; how much to crop, how often to flip?"""

from tuner import Recipe, Stage, minimize, use

GOAL = minimize("loss")
ONE, FROZEN, FREE = Stage(1), Stage(64, frozen="encoder", lr=1e-3), Stage(128, lr=1e-4)
MODELS = {  # model, what it begins from, stages
    "pixel_frequency": (use("pixel_frequency"), "none", [ONE]),
    "basic_cnn": (use("basic_cnn"), "none", [FREE]),
    "unet": (use("unet"), "none", [FREE]),
    "resnet18_frozen": (use("resnet18_unet"), "imagenet", [FROZEN]),
    "resnet18": (use("resnet18_unet"), "imagenet", [FROZEN, FREE]),
    "resnet18_overfit": (use("resnet18_unet", batch_norm=False), "imagenet", [FROZEN, FREE]),
}


def suggest(trial):
    name = trial.suggest_categorical("model", list(MODELS))
    model, weights, stages = MODELS[name]
    augment = use("none")
    if name not in ("pixel_frequency", "resnet18_overfit"):
        crop = trial.suggest_categorical("crop", [0.25, 0.0625])
        augment = use("crop_flip", crop=crop, flip=trial.suggest_categorical("flip", [0.5, 0.25]))
    loss, adam, data = use("cross_entropy", weights="frequency"), use("adam"), use("scene", image_size=256)
    return Recipe("multiclass", data, model, loss, adam, augment=augment, weights=weights, stages=stages)
