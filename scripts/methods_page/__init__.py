"""The page on methods."""
