"""A small U-Net on generated shapes: one learning rate learns, one diverges."""

from tuner import Recipe, maximize, use

GOAL = maximize("iou")


def suggest(trial):
    lr = trial.suggest_categorical("lr", [0.01, 0.03, 1e30])
    k = trial.suggest_int("k", 2, 4)
    return Recipe(
        task="binary",
        data=use("shapes", image_size=32),
        augment=use("flip"),
        model=use("unet", k=k),
        loss=use("dice_bce"),
        optimizer=use("adam", lr=lr),
        epochs=6,
        batch_size=8,
        precision="fp32",
    )
