"""U-Net of width k on horses: which learning rate, width, loss, image size and length?"""

from tuner import Recipe, maximize, use

GOAL = maximize("iou")


def suggest(trial):
    lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
    k = trial.suggest_int("k", 32, 200, step=2)
    loss = trial.suggest_categorical("loss", ["bce", "focal", "dice"])
    image_size = trial.suggest_categorical("image_size", [256, 512, 800])
    epochs = trial.suggest_int("epochs", 15, 100)
    return Recipe(
        task="binary",
        data=use("weizmann_horse", image_size=image_size),
        augment=use("flip"),
        model=use("unet", k=k, dropout=0.1),
        loss=use(loss),
        optimizer=use("adam", lr=lr),
        schedule=use("plateau"),
        epochs=epochs,
        batch_size=8,
    )
