"""From a video file to a uint8 clip in a worker, and from a batch of clips to model input on the device."""
