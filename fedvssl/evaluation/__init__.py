"""Evaluation of a frozen representation: one file and one YAML for each protocol."""
