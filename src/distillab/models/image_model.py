"""A network with its preprocessing: normalisation, size and channels of images, order of the classes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distillab.models.feature_info import FeatureInfo, describe
from distillab.models.model import Model, placed


class ImageModel(Model):
    """Takes images in [0, 1] and gives logits in the data's class order.

    The data's images, (C, H, W), are resized to the side `input_size` and normalised by `mean` and `std`, per channel in
    [0, 1], unless these are None; `stages` and `head` are module paths, guessed by a dry run where None. Raises UserError
    where the network cannot take such images, or lacks a stage.
    """

    def __init__(
        self,
        net: nn.Module,
        input_shape: tuple[int, int, int],
        name: str | None = None,
        *,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        input_size: int | None = None,
        stages: list[str] | None = None,
        head: str | None = None,
        class_order: list[int] | None = None,
    ) -> None:
        super().__init__(class_order)
        self.net = net
        self.input_shape = tuple(input_shape)
        self.input_size = input_size
        first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
        self.repeats = 3 if self.input_shape[0] == 1 and first is not None and first.in_channels == 3 else 1
        for key, values in (("mean", mean), ("std", std)):
            values = torch.tensor(values).view(-1, 1, 1) if values is not None else None
            self.register_buffer(key, values, persistent=False)
        side = (input_size, input_size) if input_size else self.input_shape[1:]
        self.net_shape = (self.input_shape[0] * self.repeats, *side)  # of what the network sees
        self.info: FeatureInfo = describe(net, self.net_shape, name or type(net).__name__, stages=stages, head=head)

    def forward(self, pixels: Tensor) -> Tensor:
        """Float images (N, C, H, W) in [0, 1] → logits (N, classes of the data)."""
        images = pixels.expand(-1, self.repeats, -1, -1) if self.repeats > 1 else pixels
        if self.input_size is not None and images.shape[-1] != self.input_size:
            images = F.interpolate(images, (self.input_size,) * 2, mode="bilinear", antialias=True)
        if self.mean is not None:
            images = (images - self.mean) / self.std
        if placed(self)[1] == torch.float64:  # recipe.precision=64-true; batches are float32
            images = images.double()
        if self.held_in is None:
            logits = self.net(images)
        else:
            with torch.autocast(images.device.type, enabled=False):  # in this dtype, whatever the student learns in
                logits = self.net(images.to(self.held_in)).float()
        return logits if self.class_order is None else logits[:, self.class_order]

    def input_settings(self) -> dict[str, Any]:
        """Normalisation, input size and image shape."""
        numbers = {"mean": self.mean, "std": self.std}
        known = {name: None if values is None else values.flatten().tolist() for name, values in numbers.items()}
        return known | {"input_size": self.input_size, "input_shape": list(self.input_shape)}

    def example_inputs(self, size: int = 2) -> dict[str, Tensor]:
        """Noise of the data's shape, on the model's device and in its dtype, with no draw from the run's generators."""
        device, dtype = placed(self)
        noise = torch.rand(size, *self.input_shape, generator=torch.Generator().manual_seed(0))
        return {"pixels": noise.to(device, dtype)}
