"""The table of models. A builder takes (channels, classes) from the program, the rest from the space."""

MODELS = {
    "unet": "tuner.models.unet:unet",
}
