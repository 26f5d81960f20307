"""SportVGG on 100 sports: is the classifier enough, or are the last layers of VGG19 to be tuned too?"""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("accuracy")


def suggest(trial):
    start = trial.suggest_categorical("start", ["frozen", "two-stage"])
    lr = trial.suggest_float("lr", 1e-5, 1e-3, log=True)
    reduced = trial.suggest_categorical("reduced", [128, 256, 512])
    stages = [Stage(epochs=25, frozen="encoder", lr=lr)]
    if start == "two-stage":
        stages.append(Stage(epochs=15, frozen="encoder[:-10]", lr=lr / 10, schedule=use("cosine")))
    return Recipe(
        task="classification",
        data=use("sports100", image_size=224),
        model=use("sport_vgg", reduced=reduced),
        weights="imagenet",
        loss=use("cross_entropy"),
        optimizer=use("adam"),
        stages=stages,
        batch_size=32,
    )
