"""Report of runs: reads their folders and writes one HTML page."""
