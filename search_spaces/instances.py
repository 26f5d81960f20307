"""Instances: deep watershed or Mask R-CNN, and what each of them turns on?"""

from tuner import Recipe, maximize, use

GOAL = maximize("ap")


def suggest(trial):
    method = trial.suggest_categorical("method", ["deep_watershed", "mask_rcnn"])
    lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    image_size = trial.suggest_categorical("image_size", [128, 256, 512])
    if method == "deep_watershed":
        k, min_size = trial.suggest_int("k", 8, 64, step=8), trial.suggest_int("min_size", 4, 64)
        model = use(method, k=k, energy=trial.suggest_float("energy", 0.2, 0.8), min_size=min_size)
        loss = use("watershed", energy_weight=trial.suggest_float("energy_weight", 0.5, 8.0, log=True))
    else:
        score, anchor = trial.suggest_float("score", 0.05, 0.7), trial.suggest_categorical("anchor", [8, 16, 32])
        model, loss = use(method, backbone="resnet18", k=64, score=score, anchor=anchor), use("own")
    return Recipe(
        task="instance",
        data=use("penn_fudan", image_size=image_size),
        augment=use("flip"),
        model=model,
        loss=loss,
        optimizer=use("adamw", lr=lr),
        schedule=use("cosine"),
        epochs=trial.suggest_int("epochs", 20, 80),
        batch_size=4,
    )
