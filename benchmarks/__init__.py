"""Measurements, each of one claim: ``python -m benchmarks.NAME``. None is a test."""
