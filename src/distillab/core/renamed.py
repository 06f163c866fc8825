"""Names of the config that have changed: an old one is refused with the new one."""

KEYS: dict[str, str | None] = {"protocol._target_": None}  # old dotted key → the new one, or None where it has gone

# Old module → the new one, for `_target_`.
MODULES = {
    **{f"distillab.models.{name}": f"distillab.models.zoo.{name}" for name in (
        "cifar_resnet", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "vgg", "wide_resnet",
    )},
    "distillab.data.images": "distillab.data.images.sources",
    "distillab.data.datamodule": "distillab.data.images.datamodule",
    "distillab.strategies.two_views": "distillab.strategies.parts.two_views",
    "distillab.sweep": "distillab.commands.sweep",
    "distillab.tune": "distillab.commands.tune",
}  # fmt: skip


def new_target(target: str) -> str | None:
    """The new name of a class or function that has moved; None for every other."""
    module, _, name = target.rpartition(".")
    return f"{MODULES[module]}.{name}" if module in MODULES else None
