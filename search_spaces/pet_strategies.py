"""Pet, background and border: FCN or SegFormer, from scratch, fine-tuned, or with the encoder frozen?"""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("miou")


def suggest(trial):
    model = trial.suggest_categorical("model", ["fcn_resnet50", "segformer"])
    start = trial.suggest_categorical("start", ["scratch", "fine-tuned", "frozen"])
    lr = trial.suggest_float("lr", 1e-4, 3e-3, log=True)
    return Recipe(
        task="multiclass",
        data=use("oxford_pet_trimap", image_size=64),
        model=use(model),
        weights="none" if start == "scratch" else "imagenet",
        loss=use("cross_entropy"),
        optimizer=use("adamw", lr=lr, amsgrad=True),
        schedule=use("exponential", gamma=0.98),
        stages=[Stage(epochs=30, frozen="encoder" if start == "frozen" else ())],
        validate_every=2,
        batch_size=64,
    )
