"""The config of a teacher cache that several tests attach."""

SETTINGS = {
    "cache": {"mode": "auto", "dtype": "float16", "top_k": None, "limit_gb": 1},
    "recipe": {"precision": "32-true", "epochs": 2},
    "trainer": {"channels_last": False, "accelerator": "cpu"},
}


def settings(**cache):
    """The same with other numbers of the cache."""
    return SETTINGS | {"cache": SETTINGS["cache"] | cache}
