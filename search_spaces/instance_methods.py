"""Instances: deep watershed by one network or by a cascade of two, or Mask R-CNN?"""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("ap")


def suggest(trial):
    method = trial.suggest_categorical("method", ["deep_watershed", "watershed_cascade", "mask_rcnn"])
    lr, epochs = trial.suggest_float("lr", 1e-4, 1e-2, log=True), trial.suggest_int("epochs", 20, 80)
    size, k = trial.suggest_categorical("image_size", [128, 256, 512]), trial.suggest_int("k", 8, 64, step=8)
    data, loss, stages = use("penn_fudan", image_size=size), use("own"), []
    if method == "mask_rcnn":
        model = use(method, backbone="resnet18", k=k, anchor=trial.suggest_categorical("anchor", [8, 16, 32]))
    elif method == "deep_watershed":
        min_size, energy = trial.suggest_int("min_size", 4, 64), trial.suggest_float("energy", 0.2, 0.8)
        direction = trial.suggest_categorical("direction", [False, True])
        model = use(method, k=k, min_size=min_size, energy=energy, direction=direction)
        loss = use("watershed", energy_weight=trial.suggest_float("energy_weight", 0.5, 8.0, log=True))
    else:
        width, min_size = trial.suggest_int("width", 16, 64, step=16), trial.suggest_int("min_size", 4, 64)
        scale, cut = trial.suggest_categorical("scale", [0.25, 0.5, 1.0]), trial.suggest_int("cut", 0, 5)
        model = use(method, k=k, min_size=min_size, scale=scale, width=width, cut=cut)
        loss = use("own", weights={"direction": trial.suggest_float("direction_weight", 0.25, 4.0, log=True)})
        long = round(epochs * trial.suggest_float("stage", 0.3, 0.45))  # epochs of each of the first two
        stages = [Stage(long, "watershed", judged=False), Stage(long, "direction", lr / 2, judged=False)]
        stages.append(Stage(epochs - 2 * long, lr=lr / 10))
    return Recipe(task="instance", data=data, augment=use("flip"), model=model, loss=loss, epochs=epochs,
        optimizer=use("adamw", lr=lr), schedule=use("cosine"), stages=stages, batch_size=4)  # fmt: skip
