"""SegFormer from streets to pets: does an encoder trained on Cityscapes help, free or frozen?"""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("miou")


def suggest(trial):
    start = trial.suggest_categorical("start", ["scratch", "fine-tuned", "frozen"])
    lr = trial.suggest_float("lr", 1e-4, 3e-3, log=True)
    return Recipe(
        task="multiclass",
        data=use("oxford_pet_trimap", image_size=64),
        model=use("segformer"),
        weights=use("none") if start == "scratch" else use("segformer_cityscapes", part="encoder"),
        loss=use("cross_entropy"),
        optimizer=use("adamw", lr=lr, amsgrad=True),
        schedule=use("exponential", gamma=0.98),
        stages=[Stage(epochs=30, frozen="encoder" if start == "frozen" else ())],
        validate_every=2,
        batch_size=64,
    )
