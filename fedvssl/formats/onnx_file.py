"""A backbone as ONNX, checked against PyTorch with onnxruntime.

From 1.5 GB on PyTorch's exporter puts the weights into a second file beside the .onnx file. The caller gives a folder
of `files.atomic.atomic_folder`, so that both files exist or none. The extra `export` has the packages.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MOST_DIFFERENCE = 1e-4  # from PyTorch, as a share of the largest feature
INPUTS, OUTPUT = {4: "clips", 3: "pictures"}, "features"  # by the number of dimensions of one sample


class Agreement(NamedTuple):
    """Largest difference between the file's features and PyTorch's, and PyTorch's largest feature for comparison."""

    difference: float
    largest: float


def check_packages() -> None:
    """Reject a missing extra before the work starts.

    Raises:
        ValueError: naming the first package that is not installed and the command that installs all.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ValueError(
            f"ONNX needs {missing[0]}, a package of the extra 'export': pip install -e '.[export]' in the clone, or "
            f"pip install {' '.join(PACKAGES)}."
        )


def write_onnx(backbone: nn.Module, path: Path, *, input_shape: Sequence[int]) -> Agreement:
    """Write the backbone in eval mode and compare the features of the file with those of `backbone`.

    Args:
        backbone: float32, on the CPU.
        path: the .onnx file; from 1.5 GB on, <path>.data is written beside it.
        input_shape: (3, T, H, W), or (3, H, W), fixed in the file, unlike the batch size.

    Raises:
        ValueError: if a feature differs by more than MOST_DIFFERENCE of the largest one.
    """
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(size, *input_shape, generator=generator) for size in (2, 1)]
    backbone.eval()
    program = torch.onnx.export(
        backbone,
        (batches[0],),
        input_names=[INPUTS[len(input_shape)]],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces with the paths of this machine
    program.save(path)
    return max(check(backbone, path, batch) for batch in batches)


def check(backbone: nn.Module, path: Path, batch: Tensor) -> Agreement:
    """Compare the features of clips or pictures [B,3,(T,)H,W].

    Raises:
        ValueError: as `write_onnx`.
    """
    import onnxruntime  # of the extra

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {INPUTS[batch.ndim - 1]: batch.numpy()})
    with torch.no_grad():
        expected = backbone(batch)
    difference = (torch.from_numpy(features) - expected).abs().max().item()
    largest = expected.abs().max().item()
    if not difference <= MOST_DIFFERENCE * largest:  # so that NaN is rejected too
        raise ValueError(
            f"The ONNX file computes other features than PyTorch: they differ by up to {difference:.2g}, "
            f"the largest is {largest:.2g}. Leave onnx out of formats, or try other versions of {', '.join(PACKAGES)}."
        )
    return Agreement(difference, largest)
