"""Speed and memory of distillation, against the usual loop."""
