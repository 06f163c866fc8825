"""Networks: how they are built, loaded and fingerprinted, and the features that are read from them."""
