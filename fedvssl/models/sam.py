"""Segment-Anything (SAM): Kirillov et al., ICCV 2023, arXiv 2304.02643, as transformers has it (the extra `sam`).

An image encoder, a prompt encoder and a mask decoder. transformers is imported when a model is built, because that
takes seconds. Nothing is downloaded: weights come from a folder, or from where an earlier download of theirs is kept.
Shapes: B pictures, O boxes each, S side of a picture, C channels of its embedding, h = S / patch_size, m = 4 h.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PACKAGE = "transformers"
FROZEN = ("vision_encoder", "prompt_encoder", "shared_image_embedding")  # parts that no training changes


class Sam(nn.Module):
    """The parts of a SAM under their own names, such as `mask_decoder`, so that these begin the names of its arrays.

    Args:
        model: transformers' SamModel.
    """

    name = "SamModel"  # of transformers

    def __init__(self, model: Any) -> None:
        super().__init__()
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

    def embed(self, pictures: Tensor) -> Tensor:
        """Normalised pictures, float32 [B,3,S,S], to embeddings, float [B,C,h,h], without gradients."""
        with torch.no_grad():
            return self._whole[0].get_image_embeddings(pictures)

    def decode(self, embeddings: Tensor, boxes: Tensor) -> Tensor:
        """Logits of the mask of each box, float32 [B,O,m,m].

        Args:
            embeddings: of `embed`.
            boxes: x0, y0, x1, y1 in pixels of the [S,S] picture, float32 [B,O,4].
        """
        found = self._whole[0](image_embeddings=embeddings, input_boxes=boxes, multimask_output=False)
        return found.pred_masks[:, :, 0].float()

    def save(self, folder: Path) -> None:
        """Write the folder that `SamModel.from_pretrained` loads, with the settings of its processor."""
        from transformers import SamImageProcessor

        self._whole[0].save_pretrained(folder)
        sides: dict[str, Any] = {
            "size": {"longest_edge": self.side},
            "mask_size": {"longest_edge": self.mask_side},
        }
        pads = {"pad_size": self.side, "mask_pad_size": self.mask_side}
        squares: dict[str, Any] = {name: {"height": side, "width": side} for name, side in pads.items()}
        SamImageProcessor(**sides, **squares).save_pretrained(folder)


def random_sam(
    *, image_size: int, patch_size: int, width: int, depth: int, heads: int, window: int, channels: int
) -> Sam:
    """A SAM with random weights, for tests and to measure.

    Args:
        image_size: side S of the pictures in pixels, a multiple of `patch_size`.
        patch_size: pixels.
        width, depth, heads: of the image encoder; its MLPs are four times as wide.
        window: side of the windows of attention, in patches. Every third layer, and the last one, looks at the whole.
        channels: C, of the embeddings and of the mask decoder, whose MLPs are eight times as wide; a multiple of 8.

    Raises:
        ValueError: if transformers is not installed, or the sizes do not fit together.
    """
    transformers = _transformers()
    if image_size % patch_size or width % heads or channels % 8:
        raise ValueError(
            f"model: image_size={image_size} must be a multiple of patch_size={patch_size}, width={width} of "
            f"heads={heads}, and channels={channels} of 8."
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
            **{"hidden_size": channels, "num_attention_heads": 8, "mlp_dim": 8 * channels},
            "iou_head_hidden_dim": channels,
        },
    )
    # Deviation of the random encoding of places, 1 in the published code. transformers has width / 2, for weights to
    # replace: places a pixel apart would be as unlike as any, and no decoder could learn what boxes say.
    config.vision_config.scale = 1.0
    return Sam(transformers.SamModel(config))


def pretrained_sam(*, weights: str) -> Sam:
    """A SAM with weights that are on this machine.

    Args:
        weights: a folder with config.json and model.safetensors, as `fedvssl.export` and transformers write it, or the
            name of one that transformers has downloaded before.

    Raises:
        ValueError: if transformers is not installed, or there is no such SAM.
    """
    # Neither code beside config.json, which transformers would run after a question, nor pickled weights.
    transformers, own = _transformers(), {"local_files_only": True, "trust_remote_code": False}
    try:
        kind = transformers.AutoConfig.from_pretrained(weights, **own).model_type
        load = transformers.SamModel.from_pretrained
        safe = {"use_safetensors": True, "output_loading_info": True}
        model, told = load(weights, **own, **safe) if kind == "sam" else (None, {})
    except Exception as error:  # whatever is in these files
        raise ValueError(
            f"model.weights={weights} is no folder with a SAM (config.json, model.safetensors), and no SAM of this "
            f"name was downloaded before: {' '.join(str(error).split())[:120]} ..."
        ) from error
    if kind != "sam":
        raise ValueError(f"model.weights={weights} is a model of the kind '{kind}', not a SAM.")
    if missing := [name for name in told["missing_keys"] if "shared" not in name]:
        raise ValueError(f"model.weights={weights} lacks {len(missing)} arrays of a SAM, such as {sorted(missing)[0]}.")
    return Sam(model)


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
