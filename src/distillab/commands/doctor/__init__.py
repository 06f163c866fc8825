"""Looks for the known mistakes of language runs on the person's own text and models."""
