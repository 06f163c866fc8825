"""The student alone, one file per format."""
