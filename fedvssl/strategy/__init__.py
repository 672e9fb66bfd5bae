"""Flower strategies and the arithmetic of their aggregation. Needs flwr and numpy, nothing else."""
