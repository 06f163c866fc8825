"""Metrics, statistics, efficiency and cost of trained models."""
