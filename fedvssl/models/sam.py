"""Segment-Anything (SAM): Kirillov et al., ICCV 2023, arXiv 2304.02643, as transformers has it (the extra `sam`).

An image encoder, a prompt encoder and a mask decoder. transformers is imported when a model is built, because that
takes seconds. Nothing is downloaded: weights come from a folder, or from where an earlier download of theirs is kept.
The encoder's attention may get adapters, low-rank terms that are added to its frozen weights (LoRA: Hu et al., ICLR
2022, arXiv 2106.09685), as peft has them.
Shapes: B pictures, O boxes each, S side of a picture, C channels of its embedding, h = S / patch_size, m = 4 h.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PACKAGE, ADAPTERS = "transformers", "peft"
LORA = ("rank", "alpha")
FROZEN = ("vision_encoder", "prompt_encoder", "shared_image_embedding")  # parts that no training changes


class Sam(nn.Module):
    """The parts of a SAM under their own names, such as `mask_decoder`, so that these begin the names of its arrays.

    Args:
        model: transformers' SamModel.
        lora: "rank" of the adapters in the attention of the image encoder, 0 for none, and "alpha": what they add is
            multiplied by alpha / rank. None for none either. They add nothing before they are trained.

    Raises:
        ValueError: if `lora` has other entries, or peft is needed and not installed.
    """

    name = "SamModel"  # of transformers

    def __init__(self, model: Any, *, lora: Mapping[str, Any] | None) -> None:
        super().__init__()
        self._adapters = _adapted(model, lora)
        self.config = model.config
        self.shared_image_embedding = model.shared_image_embedding
        self.vision_encoder = model.vision_encoder
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        self._whole = (model,)  # in a tuple, so that its parts have one name each

    @property
    def side(self) -> int:
        """S, of the pictures that it takes."""
        return self.config.vision_config.image_size

    @property
    def mask_side(self) -> int:
        """m, of the masks that it gives."""
        return 4 * self.side // self.config.vision_config.patch_size

    @property
    def is_adapted(self) -> bool:
        """True if the image encoder has adapters, so that it learns."""
        return self._adapters is not None

    def embed(self, pictures: Tensor) -> Tensor:
        """Normalised pictures, float32 [B,3,S,S], to embeddings, float [B,C,h,h]; gradients are for adapters only."""
        with torch.set_grad_enabled(self.is_adapted and torch.is_grad_enabled()):
            return self.vision_encoder(pictures)[0]

    def decode(self, embeddings: Tensor, boxes: Tensor) -> Tensor:
        """Logits of the mask of each box, float32 [B,O,m,m].

        Args:
            embeddings: of `embed`.
            boxes: x0, y0, x1, y1 in pixels of the [S,S] picture, float32 [B,O,4].
        """
        found = self._whole[0](image_embeddings=embeddings, input_boxes=boxes, multimask_output=False)
        return found.pred_masks[:, :, 0].float()

    def save(self, folder: Path) -> None:
        """Write the folder that `SamModel.from_pretrained` loads, with the settings of its processor.

        Adapters are added to the weights that they belong to, here too.
        """
        from transformers import SamImageProcessor

        if self._adapters is not None:
            self._adapters[0].merge_and_unload()
            self._adapters = None
        self._whole[0].save_pretrained(folder)
        sides: dict[str, Any] = {
            "size": {"longest_edge": self.side},
            "mask_size": {"longest_edge": self.mask_side},
        }
        pads = {"pad_size": self.side, "mask_pad_size": self.mask_side}
        squares: dict[str, Any] = {name: {"height": side, "width": side} for name, side in pads.items()}
        SamImageProcessor(**sides, **squares).save_pretrained(folder)


def random_sam(
    *,
    image_size: int,
    patch_size: int,
    width: int,
    depth: int,
    heads: int,
    window: int,
    channels: int,
    decoder_heads: int,
    lora: Mapping[str, Any] | None = None,
) -> Sam:
    """A SAM with random weights, for tests and to measure.

    Args:
        image_size: side S of the pictures in pixels, a multiple of `patch_size`.
        patch_size: pixels.
        width, depth, heads: of the image encoder; its MLPs are four times as wide.
        window: side of the windows of attention, in patches. Every third layer, and the last one, looks at the whole.
        channels: C, of the embeddings and of the mask decoder, whose MLPs are eight times as wide; a multiple of 8.
        decoder_heads: of the mask decoder's attention, whose width is C in one layer and C / 2 in the others.
        lora: adapters, see `Sam`.

    Raises:
        ValueError: if transformers is not installed, the sizes do not fit together, or as `Sam`.
    """
    transformers = _transformers()
    if image_size % patch_size or width % heads or channels % 8 or channels % (2 * decoder_heads):
        raise ValueError(
            f"model: image_size={image_size} must be a multiple of patch_size={patch_size}, width={width} of "
            f"heads={heads}, and channels={channels} of 8 and of twice decoder_heads={decoder_heads}."
        )
    whole = sorted({*range(2, depth, 3), depth - 1})
    sizes = {"image_size": image_size, "patch_size": patch_size}
    config = transformers.SamConfig(
        vision_config={
            **{**sizes, "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads},
            **{"output_channels": channels, "mlp_dim": 4 * width, "window_size": window},
            **{"global_attn_indexes": whole, "num_pos_feats": channels // 2},
            "initializer_range": 0.02,  # of transformers' default nothing would reach the embeddings
        },
        prompt_encoder_config={**sizes, "hidden_size": channels, "mask_input_channels": max(4, channels // 16)},
        mask_decoder_config={
            **{"hidden_size": channels, "num_attention_heads": decoder_heads, "mlp_dim": 8 * channels},
            "iou_head_hidden_dim": channels,
        },
    )
    # Deviation of the random encoding of places, 1 in the published code. transformers has width / 2, for weights to
    # replace: places a pixel apart would be as unlike as any, and no decoder could learn what boxes say.
    config.vision_config.scale = 1.0
    model = transformers.SamModel(config)
    _draw_anew(model.mask_decoder)
    _draw_anew(model.prompt_encoder)
    return Sam(model, lora=lora)


def _draw_anew(part: nn.Module) -> None:
    """Draw weights as PyTorch and the published code do; else masks are 0 for long, and a box's corners one prompt."""
    for module in part.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # pyright: ignore[reportCallIssue]


def pretrained_sam(*, weights: str, lora: Mapping[str, Any] | None = None) -> Sam:
    """A SAM with weights that are on this machine.

    Args:
        weights: a folder with config.json and model.safetensors, as `fedvssl.export` and transformers write it, or the
            name of one that transformers has downloaded before.
        lora: adapters, see `Sam`.

    Raises:
        ValueError: if transformers is not installed, there is no such SAM, or as `Sam`.
    """
    # Neither code beside config.json, which transformers would run after a question, nor pickled weights.
    transformers, own = _transformers(), {"local_files_only": True, "trust_remote_code": False}
    try:
        kind = transformers.AutoConfig.from_pretrained(weights, **own).model_type
        # Beside peft transformers would load these too, pickled ones as well.
        adapters = transformers.utils.find_adapter_config_file(weights, local_files_only=True)
        load = transformers.SamModel.from_pretrained
        safe = {"use_safetensors": True, "output_loading_info": True}
        model, told = load(weights, **own, **safe) if kind == "sam" and not adapters else (None, {})
    except Exception as error:  # whatever is in these files
        raise ValueError(
            f"model.weights={weights} is no folder with a SAM (config.json, model.safetensors), and no SAM of this "
            f"name was downloaded before: {' '.join(str(error).split())[:120]} ..."
        ) from error
    if kind != "sam":
        raise ValueError(f"model.weights={weights} is a model of the kind '{kind}', not a SAM.")
    if adapters:
        raise ValueError(
            f"model.weights={weights} holds adapters of its own ({Path(adapters).name}): merge them first."
        )
    if missing := [name for name in told["missing_keys"] if "shared" not in name]:
        raise ValueError(f"model.weights={weights} lacks {len(missing)} arrays of a SAM, such as {sorted(missing)[0]}.")
    return Sam(model, lora=lora)


def _adapted(model: Any, lora: Mapping[str, Any] | None) -> tuple[Any] | None:
    """Put adapters into a SamModel; returns what can merge them in a tuple, which hides its arrays, or None.

    Raises:
        ValueError: as `Sam`.
    """
    settings: dict[str, Any] = {"rank": 0, "alpha": 1} if lora is None else dict(lora)
    rank, alpha = (settings.get(name) for name in LORA)
    whole = isinstance(rank, int) and not isinstance(rank, bool) and rank >= 0
    if not whole or not isinstance(alpha, int | float) or alpha <= 0 or settings.keys() != {*LORA}:
        raise ValueError(f"model.lora={lora} must have rank, a whole number from 0, and alpha, a number above 0.")
    if not rank:
        return None
    if find_spec(ADAPTERS) is None:
        raise ValueError(f"model.lora.rank={rank} needs peft: pip install 'fedvssl[sam]', or set it to 0.")
    import peft  # pyright: ignore[reportMissingImports] # where it is not installed

    of: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": r"vision_encoder\..*\.qkv"}
    adapters = peft.LoraModel(model, peft.LoraConfig(**of), "default")
    model.requires_grad_(True)  # peft has frozen all others; here task.frozen decides
    return (adapters,)


def _transformers() -> Any:
    """The library, which says nothing of its progress.

    Raises:
        ValueError: if it is not installed.
    """
    if find_spec(PACKAGE) is None:
        raise ValueError("Segment-Anything needs transformers: pip install 'fedvssl[sam]'.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no look at a network, whatever is asked for
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
