"""Pretext tasks, one file each: what is drawn for a clip, how it is augmented, head and loss."""
