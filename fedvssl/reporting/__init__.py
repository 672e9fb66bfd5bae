"""The report: what lies in the folders of runs, and how it becomes one HTML page."""
