"""Training loop of federated clients and fine-tuning, with its precision, processes, schedule and metrics."""
