"""Form in which latents and their gradients travel: as they were computed, or in fewer bits.

float32   as computed, in the precision of the run
float16   divided by their largest magnitude, so that small gradients keep their digits
uint8     256 equal steps from the least to the largest value
"""

import numpy as np

from fedvssl.files.arrays import Arrays

WIRE_DTYPES = ("float32", "float16", "uint8")
RANGE = "/range"  # end of the name of the array that tells least and largest value


def encode(name: str, array: np.ndarray, wire_dtype: str) -> Arrays:
    """The arrays that travel for one of floats: `name`, and in fewer bits its range too."""
    if wire_dtype == "float32":
        return {name: array}
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if wire_dtype == "float16":
        high = max(abs(low), abs(high))
        low, coded = 0.0, (array / (high or 1.0)).astype(np.float16)
    else:
        coded = np.rint((array - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    return {name: coded, name + RANGE: np.array([low, high])}


def decode(name: str, arrays: Arrays, *, dtype: str, wire_dtype: str) -> np.ndarray:
    """Floats of what `encode` has made.

    Args:
        dtype: of the floats.

    Raises:
        ValueError: if an array is missing, has another dtype, or a value is not finite.
    """
    coded = _taken(name, arrays, dtype if wire_dtype == "float32" else wire_dtype)
    if wire_dtype == "float32":
        return coded
    limits = _taken(name + RANGE, arrays, "float64")
    if limits.shape != (2,):
        raise ValueError(f"'{name + RANGE}' is not two numbers")
    low, high = limits.tolist()
    factor = high if wire_dtype == "float16" else (high - low) / 255
    return (coded.astype(dtype) * factor + (0.0 if wire_dtype == "float16" else low)).astype(dtype)


def _taken(name: str, arrays: Arrays, dtype: str) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"'{name}' is missing")
    array = arrays[name]
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"'{name}' is {array.dtype}, not {dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"'{name}' has values that are not finite")
    return array
