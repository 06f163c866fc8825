"""The page on scale."""
