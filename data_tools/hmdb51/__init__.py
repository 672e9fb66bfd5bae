"""HMDB-51: where it is."""
