"""Metrics, statistics, figures and the report."""
