"""Tasks, one file each: the random draws for a clip, its augmentation, head and loss."""
