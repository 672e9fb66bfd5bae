"""Choice of the precision: bfloat16 where the device has it, after a check that its results agree with float32.

Both cuDNN and oneDNN have computed three-dimensional bfloat16 convolutions wrongly without an error. A run would only
train worse. So one step is computed in both precisions before the training starts.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedvssl.data import augment
from fedvssl.data.dataset import SampleDataset, stack
from fedvssl.tasks.task import Batch

MIXED, FULL = "bf16-mixed", "32-true"
PRECISIONS = (FULL, MIXED, "16-mixed")  # autocast alone: others of Fabric's convert the weights, which travel
MOST_ERROR = 0.2  # rounding alone gives 0.01 to 0.03 in the features of a clip
LEAST_COSINE = 0.7  # with two clips, rounding alone gives 0.86 and more, and the known faults 0.5 or nan
LEAST_OF_A_LAYER = 0.99  # of one layer by itself rounding alone gives 0.9999


def choose_device(device: str) -> str:
    """ "auto" becomes "cuda" where there is one, "cpu" elsewhere."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def choose_precision(precision: str, *, device: str) -> str:
    """ "auto" becomes bfloat16 autocast where the device computes in it natively, float32 elsewhere.

    Raises:
        ValueError: for an unknown precision.
    """
    if precision != "auto":
        if precision not in PRECISIONS:
            raise ValueError(f"precision={precision} is unknown: choose auto or one of {', '.join(PRECISIONS)}.")
        return precision
    return MIXED if has_native_bf16(choose_device(device)) else FULL


def has_native_bf16(device: str) -> bool:
    """True if the device computes bfloat16 by instructions, not by emulation."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def checked_precision(
    precision: str, *, device: str, task: Any, dataset: SampleDataset, warn: Callable[[str], object]
) -> str:
    """Precision to train in: the requested one, or float32 if the gradients in bfloat16 disagree.

    They agree if those of the whole task do, or those of each layer by itself.

    Args:
        precision, device: as in `build_fabric`.
        task: a Task; not changed.
        dataset: source of two clips for the comparison.
        warn: receives a sentence about a fall-back.
    """
    precision, device = choose_precision(precision, device=device), choose_device(device)
    if precision != MIXED:
        return precision
    clips = stack([dataset[index] for index in range(min(2, len(dataset)))])
    name, cosine = agreement(task, clips, device=device)
    # In an untrained ResNet-50 the rounding of a layer grows in the next ones, until nothing can be compared.
    if cosine >= LEAST_COSINE or least_layer_agreement(task, clips, device=device) >= LEAST_OF_A_LAYER:
        return MIXED
    warn(
        f"bfloat16 computes something else than float32 here (the gradients of {name} have a cosine of {cosine:.2f}): "
        "training in float32. Another release of torch may mend it."
    )
    return FULL


def checked_inference(
    precision: str, *, device: str, backbone: nn.Module, dataset: SampleDataset, warn: Callable[[str], object]
) -> str:
    """Precision to compute features in: as `checked_precision`, compared on one clip, with the backbone in eval mode.

    The clip goes through the backbone in any case, so that a backbone that does not take it is told early.

    Args:
        precision, device: as in `build_fabric`.
        backbone: on the CPU; not changed.
        dataset: videos with "frames" uint8 [N,T,H,W,3], or pictures with [N,H,W,3].
        warn: receives a sentence about a fall-back.

    Raises:
        ValueError: for an unknown precision, and as `first_features`.
    """
    precision, device = choose_precision(precision, device=device), choose_device(device)
    model = copy.deepcopy(backbone).to(device).eval()
    clip, exact = first_features(model, dataset, device=device)
    if precision != MIXED:
        return precision
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
        rounded = model(clip).float()
    error = float((rounded - exact).norm() / exact.norm())
    if error <= MOST_ERROR:
        return MIXED
    warn(
        f"bfloat16 computes something else than float32 here (features differ by {100 * error:.0f} %): computing in "
        "float32. Another release of torch may mend it."
    )
    return FULL


def first_features(backbone: nn.Module, dataset: SampleDataset, *, device: str) -> tuple[Tensor, Tensor]:
    """First clip or picture of a dataset, normalised, float32 [1,3,(T,)H,W], and its features.

    Args:
        backbone: on the device, in eval mode.
        dataset: as for `checked_inference`.
        device: "cpu" or "cuda".

    Raises:
        ValueError: if the sample cannot be read, or the backbone does not take it.
    """
    sample = dataset[0]
    try:
        clip = augment.normalize(sample["frames"][:1].to(device).float())
        with torch.no_grad():
            return clip, backbone(clip)
    except ValueError:
        raise
    except Exception as error:  # whatever goes wrong in a backbone of somebody's own
        name, what = dataset.annotations[0].name, f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{type(backbone).__name__} cannot compute features of {name}: {what}.") from error


def agreement(task: Any, batch: Batch, *, device: str) -> tuple[str, float]:
    """Name of the weight whose gradients agree least between one step in bfloat16 and in float32, and their cosine.

    Biases and normalisation are left out: their gradients are sums that may cancel to rounding errors.
    """
    with torch.random.fork_rng():
        task = copy.deepcopy(task).to(device).train()
        with torch.no_grad():
            batch = task.augment({name: value.to(device) for name, value in batch.items()})
        expected, found = (_gradients(task, batch, device=device, mixed=mixed) for mixed in (False, True))
    cosines = {name: _cosine(found[name], expected[name]) for name in expected if expected[name].any()}
    return min(cosines.items(), key=lambda item: item[1], default=("no weight", 1.0))


def least_layer_agreement(task: Any, batch: Batch, *, device: str) -> float:
    """Least cosine between the gradients of one layer in bfloat16 and in float32, for weights and for inputs.

    Each layer gets its input and its gradient of a step in float32, so that no rounding is carried from one to another.
    It is -1 if a weight with a gradient is not that of a layer of one tensor, such as nn.Conv2d or nn.Linear.
    """
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def remember(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        is_plain = len(inputs) == 1 and torch.is_tensor(inputs[0]) and torch.is_tensor(output)
        if is_plain and output.requires_grad:
            output.register_hook(lambda grad: seen.append((layer, inputs[0].detach(), grad)))

    with torch.random.fork_rng():
        task = copy.deepcopy(task).to(device).train()
        with torch.no_grad():
            batch = task.augment({name: value.to(device) for name, value in batch.items()})
        weighted = [layer for layer in task.modules() if getattr(layer, "weight", torch.empty(0)).dim() > 1]
        hooks = [layer.register_forward_hook(remember) for layer in weighted]
        with_gradient = _gradients(task, batch, device=device, mixed=False)
    for hook in hooks:
        hook.remove()
    names = {weight: name for name, weight in task.named_parameters()}
    if with_gradient.keys() - {names[layer.weight] for layer, _, _ in seen}:  # pyright: ignore[reportArgumentType]
        return -1.0
    return min((_layer_cosine(*own, device=device) for own in seen), default=1.0)


def _layer_cosine(layer: Any, x: Tensor, grad: Tensor, *, device: str) -> float:
    """Smaller cosine of the gradients of its weight and of its input, in bfloat16 and in float32."""
    x, found = x.requires_grad_(), []
    for mixed in (False, True):
        with torch.enable_grad(), torch.autocast(device, torch.bfloat16, enabled=mixed):
            y = layer(x)
        found.append(torch.autograd.grad(y, (layer.weight, x), grad.to(y.dtype)))
    return min(_cosine(rounded.float().flatten(), exact.flatten()) for exact, rounded in zip(*found, strict=True))


def _gradients(task: nn.Module, batch: Batch, *, device: str, mixed: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)  # dropout
    task.zero_grad()
    with torch.autocast(device, torch.bfloat16, enabled=mixed):
        loss = task(batch)["loss"]
    loss.backward()
    weights = {name: weight.grad for name, weight in task.named_parameters() if weight.dim() > 1}
    return {name: grad.float().flatten() for name, grad in weights.items() if grad is not None}


def _cosine(a: Tensor, b: Tensor) -> float:
    """Cosine similarity; -1 if it is not a number."""
    return float(cosine_similarity(a, b, dim=0).nan_to_num(-1.0))
