"""The command `distillab demo`: teacher, student alone and distilled student side by side, on a local page."""
