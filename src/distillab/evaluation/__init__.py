"""How good, how large, how fast a model is."""
