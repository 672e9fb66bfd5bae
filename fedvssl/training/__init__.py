"""The training loop that federated clients and fine-tuning share, and what it writes to disk."""
