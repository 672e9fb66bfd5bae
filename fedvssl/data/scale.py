"""Height and width of frames after resizing; apart from the resizing itself, whose library loads PyTorch."""

Scale = int | tuple[int, int]


def resized_shape(height: int, width: int, scale: Scale) -> tuple[int, int]:
    """Height and width after resizing.

    Args:
        scale: the new short side, at the same aspect ratio, or the exact (long, short) sides in either orientation.
    """
    if isinstance(scale, int):
        factor = scale / min(height, width)
        return (scale, int(width * factor + 0.5)) if height <= width else (int(height * factor + 0.5), scale)
    long, short = scale
    return (short, long) if height <= width else (long, short)
