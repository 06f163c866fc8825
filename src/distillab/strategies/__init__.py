"""Loss terms: one file per method."""
