"""The table of models. A builder takes (channels, classes) from the program and the rest from the space."""

ENCODER = "encoder."  # prefix of the tensor names of the pretrained part
MODELS = {
    "unet": "tuner.models.unet:unet",
    "unet_transposed": "tuner.models.unet_transposed:unet_transposed",
    "basic_cnn": "tuner.models.basic_cnn:basic_cnn",
    "resnet18_unet": "tuner.models.resnet_unet:resnet18_unet",
    "resnet34_unet": "tuner.models.resnet_unet:resnet34_unet",
    "mobilenet_unet": "tuner.models.mobilenet:mobilenet_unet",
    "mobilenet_segnet_attention": "tuner.models.mobilenet:mobilenet_segnet_attention",
    "mobilenet_segnet_attention_atrous": "tuner.models.mobilenet:mobilenet_segnet_attention_atrous",
    "fcn_resnet50": "tuner.models.fcn:fcn_resnet50",
    "segformer": "tuner.models.smp:segformer",
    "smp": "tuner.models.smp:smp",
    "pixel_frequency": "tuner.models.pixel_frequency:pixel_frequency",
    "sport_vgg": "tuner.models.sport_vgg:sport_vgg",
    "timm": "tuner.models.timm:timm",
    "deep_watershed": "tuner.models.deep_watershed:deep_watershed",
    "watershed_cascade": "tuner.models.watershed_cascade:watershed_cascade",
    "mask_rcnn": "tuner.models.mask_rcnn:mask_rcnn",
}
INSTANCE_MODELS = ("deep_watershed", "watershed_cascade", "mask_rcnn")  # models for the task "instance"
