"""Tables over many runs: which commands make them, what those have left, and how it is shown."""
