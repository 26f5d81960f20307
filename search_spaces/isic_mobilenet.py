"""MobileNetV2 encoders on skin lesions: which decoder and loss, and how fast may the encoder learn?"""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("image_iou")


def suggest(trial):
    decoder = trial.suggest_categorical("decoder", ["unet", "segnet_attention", "segnet_attention_atrous"])
    loss = trial.suggest_categorical("loss", ["bce", "iou", "dice", "iou_dice"])
    epochs = trial.suggest_categorical("epochs", [20, 50, 100])
    copies = trial.suggest_categorical("copies", [0, 1])
    stages = [Stage(epochs=epochs, frozen="encoder", lr=1e-3)]
    if trial.suggest_categorical("start", ["frozen", "fine-tuned"]) == "fine-tuned":
        encoder_lr = trial.suggest_float("encoder_lr", 1e-6, 1e-4, log=True)
        stages.append(Stage(epochs=epochs, lr=1e-4, encoder_lr=encoder_lr))
    return Recipe(
        task="binary",
        data=use("isic2016", image_size=256),
        augment=use("lesion") if copies else use("none"),
        copies=copies,
        model=use(f"mobilenet_{decoder}"),
        weights="imagenet",
        loss=use("mix", first="iou", second="dice") if loss == "iou_dice" else use(loss),
        optimizer=use("adam"),
        stages=stages,
    )
