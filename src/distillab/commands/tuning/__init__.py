"""Tuning: the searched numbers, the study of a method, its page."""
