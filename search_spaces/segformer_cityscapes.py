"""SegFormer on 19 classes of streets: the weights that segformer_transfer begins from."""

from tuner import Recipe, maximize, use

GOAL = maximize("miou")


def suggest(trial):
    lr = trial.suggest_float("lr", 1e-4, 3e-3, log=True)
    return Recipe(
        task="multiclass",
        data=use("cityscapes", image_size=64),
        model=use("segformer"),
        loss=use("cross_entropy"),
        optimizer=use("adamw", lr=lr, amsgrad=True),
        schedule=use("exponential", gamma=0.98),
        epochs=30,
        validate_every=2,
        batch_size=64,
    )
