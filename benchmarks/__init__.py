"""Measurements of speed and memory, each next to its baseline. `python -m benchmarks.all` runs them all."""
