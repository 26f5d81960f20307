"""Skin lesions: how fast may the encoder learn, after the decoder has learned above a frozen one?"""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("image_iou")


def suggest(trial):
    encoder_lr = trial.suggest_float("encoder_lr", 1e-6, 1e-4, log=True)
    return Recipe(
        task="binary",
        data=use("isic2016", image_size=256),
        model=use("mobilenet_segnet_attention_atrous"),
        weights=use("isic_start", part="all"),
        loss=use("bce"),
        optimizer=use("adam"),
        stages=[Stage(epochs=20, lr=1e-4, encoder_lr=encoder_lr)],
    )
