"""Metrics: pure functions from matrices to a number, each with its description (`MetricSpec`)."""
