"""Networks: how they are built, loaded and fingerprinted, and the features that can be read of them."""
