"""Vision models of transformers from a folder or the hub (extra `language`): backbones, and classifiers."""

from contextlib import nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillab.core.errors import UserError, reason
from distillab.core.places import folder_or_name
from distillab.core.ready_made import read_image_settings, read_vision_model
from distillab.models.quiet import without_bars
from distillab.models.trace import evaluation_mode

PIXELS = "interpolate_pos_encoding"  # the argument by which a transformer takes images of another size than its own


class TransformersVision(nn.Module):
    """A vision model of transformers that takes images and gives logits, or one vector of features an image.

    The vector is the class token behind the last layer norm where the model has one (ViT, DINOv2, DINOv3), else what the
    model pools, else the mean of its tokens or of its last map. A masked autoencoder masks nothing. `pretrained_cfg` says what its weights expect, by timm's names; `num_classes` is 0 for a backbone.
    """

    def __init__(self, body: nn.Module, expects: dict[str, Any], num_classes: int | None = None) -> None:
        super().__init__()
        self.body, self.pretrained_cfg = body, expects
        self.resizes = PIXELS in signature(body.forward).parameters
        self.shuffles = body.config.model_type == "vit_mae"
        own = expects["num_classes"]
        self.classifies = bool(own)
        if num_classes:  # a backbone that is trained here
            with torch.no_grad(), evaluation_mode(body):
                width = self.features(torch.zeros(1, *expects["input_size"])).shape[1]
            self.head = nn.Linear(width, num_classes)

    def outputs(self, images: Tensor) -> Any:
        """What the model of transformers gives for images (N, 3, H, W)."""
        how = {PIXELS: True} if self.resizes else {}
        if self.shuffles:  # by these numbers, one a patch: in their order
            patch = self.body.config.patch_size
            places = torch.arange((images.shape[2] // patch) * (images.shape[3] // patch), device=images.device)
            how["noise"] = places.expand(len(images), -1)
        return self.body(pixel_values=images, **how)

    def features(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) → (N, d)."""
        found = self.outputs(images)
        pools = getattr(
            self.body.config, "use_mean_pooling", False
        )  # BEiT, whose own layer norm stands behind the mean
        if hasattr(getattr(self.body, "embeddings", None), "cls_token") and not pools:
            return found.last_hidden_state[:, 0]
        if getattr(found, "cls_token_value", None) is not None:
            return found.cls_token_value[:, 0]
        if getattr(found, "pooler_output", None) is not None:
            return found.pooler_output.flatten(1)
        last = found.last_hidden_state
        return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) → logits (N, classes), or features (N, d) of a backbone without a head."""
        if self.classifies:
            return self.outputs(images).logits
        features = self.features(images)
        return self.head(features) if hasattr(self, "head") else features


def vision_model(
    path: str,
    num_classes: int | None = None,
    image_size: int | None = None,
    *,
    pretrained: bool = True,
    as_it_is: bool = True,
) -> TransformersVision:
    """The vision model of a local folder or of the hub: a classifier where its config says so, else a backbone.

    Where it does not stay `as_it_is`, and with fresh weights (`pretrained=False`), it is the backbone with a new head of
    `num_classes`. Fresh weights have patches for images of `image_size`.
    Raises UserError where transformers is not installed, or the folder holds no vision model.
    """
    try:
        import transformers  # noqa: F401 - it takes seconds, and is an extra
    except ImportError as error:
        raise UserError('transformers is not installed; pip install "distillab[language]"') from error
    place = folder_or_name(path, "path")
    try:
        with without_bars() if Path(place).is_dir() else nullcontext():  # a download may show how far it is
            whole = pretrained and as_it_is
            body, classifies = read_vision_model(place, pretrained=pretrained, head=whole, image_size=image_size)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} holds no vision model of transformers: {reason(error)}") from error
    mean, std, side = read_image_settings(place)
    config = body.config
    if config.model_type == "vit_mae":
        config.mask_ratio = 0.0
    own = getattr(config, "image_size", None)
    assumed, own = side is None and own is None, own or 224
    side = side or (own if isinstance(own, int) else own[0])
    names = [str(config.id2label.get(number)) for number in range(config.num_labels)] if classifies else []
    expects = {
        "classes": None if names == [f"LABEL_{number}" for number in range(len(names))] else names,
        "new_head": None if as_it_is else "of a folder of transformers the backbone is taken",
        "assumed_side": assumed,
        "mean": mean,
        "std": std,
        "input_size": (getattr(config, "num_channels", 3), side, side),
        "num_classes": config.num_labels if classifies else 0,
    }
    return TransformersVision(body, expects, None if whole else num_classes)
