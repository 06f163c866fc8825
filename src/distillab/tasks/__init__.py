"""Tasks: the samples, their metrics, and the figure that selects the checkpoint."""
