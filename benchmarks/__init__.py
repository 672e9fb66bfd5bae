"""Measurements of speed and memory, each against a baseline run beside it. `python -m benchmarks.all` runs them all."""
