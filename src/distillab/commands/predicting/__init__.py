"""What `distillab predict` and `distillab demo` ask the networks of a run."""
