"""Tables over many runs: the commands that make them, their results, and the output."""
