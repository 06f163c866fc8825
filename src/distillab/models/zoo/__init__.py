"""The CIFAR networks of the distillation papers, one file per family."""
