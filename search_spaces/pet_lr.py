"""Pets against background: the learning rate of two U-Nets, 50 trials of 5 epochs; then extend the best."""

from tuner import Recipe, maximize, use

GOAL = maximize("dice")
WEIGHTS = {"unet_transposed": "none", "resnet34_unet": "imagenet"}


def suggest(trial):
    model = trial.suggest_categorical("model", list(WEIGHTS))
    lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
    return Recipe(
        task="binary",
        data=use("oxford_pet", image_size=256, val=0.1),
        augment=use("pet", rgb=10 / 255),
        model=use(model),
        weights=WEIGHTS[model],
        loss=use("dice_bce"),
        optimizer=use("adam", lr=lr),
        epochs=5,
        batch_size=16,
    )
