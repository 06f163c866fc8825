"""What is learned: how outputs are judged, and which figure selects the checkpoint."""
