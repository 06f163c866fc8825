"""Exports the student, one file per format."""
