"""Segment-Anything: its published size, weights from a folder, and mistakes; nothing reaches a network."""

import socket
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

from fedvssl.models import sam
from fedvssl.models.sam import pretrained_sam, random_sam
from tests.tiny_sam import tiny_sam


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a look at the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_sizes_of_vit_b_are_the_published_ones() -> None:
    with torch.device("meta"):
        sizes = {"image_size": 1024, "patch_size": 16, "width": 768, "depth": 12, "heads": 12, "window": 14}
        model = random_sam(**sizes, channels=256, decoder_heads=8)
    numbers = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert numbers["vision_encoder"] == 89_670_912 and numbers["mask_decoder"] == 4_058_340
    assert sum(name.startswith("mask_decoder.") for name in model.state_dict()) == 120
    assert (model.side, model.mask_side) == (1024, 256)


def test_a_folder_holds_the_whole_model_and_its_processor(tmp_path: Path) -> None:
    from transformers import SamImageProcessor, SamModel, SamProcessor

    model = tiny_sam(seed=3)
    model.save(tmp_path)
    again, theirs = pretrained_sam(weights=str(tmp_path)), SamModel.from_pretrained(tmp_path, local_files_only=True)
    for name, array in model.state_dict().items():
        assert torch.equal(array, again.state_dict()[name]) and torch.equal(array, theirs.state_dict()[name])
    pictures, boxes = torch.randn(2, 3, 64, 64), torch.tensor([[[3.0, 4, 30, 40], [0, 0, 64, 64]]] * 2)
    expected = theirs(pixel_values=pictures, input_boxes=boxes, multimask_output=False).pred_masks[:, :, 0]
    torch.testing.assert_close(again.decode(again.embed(pictures), boxes), expected)
    processor = SamProcessor(SamImageProcessor.from_pretrained(tmp_path, local_files_only=True))
    assert processor(torch.zeros(3, 40, 60), return_tensors="pt")["pixel_values"].shape == (1, 3, 64, 64)


def test_boxes_that_are_alike_have_prompts_that_are_alike() -> None:
    """Else a decoder learns each box by heart, and of another one it knows nothing."""
    boxes = torch.tensor([[10.0, 12, 30, 40], [11, 12, 31, 40], [42, 44, 62, 63]])
    prompts, _ = tiny_sam()._whole[0].prompt_encoder(None, None, boxes[None], None)
    once, moved, elsewhere = torch.nn.functional.normalize(prompts[0].flatten(1), dim=1)
    assert once @ moved > 0.95 and once @ elsewhere < 0.6


def test_a_corner_of_a_box_tells_which_one_it_is() -> None:
    """The prompt encoder is frozen, so no decoder could learn to tell the first corner from the last."""
    prompts, _ = tiny_sam()._whole[0].prompt_encoder(None, None, torch.tensor([[[30.0, 30, 30, 30]]]), None)
    first, last = torch.nn.functional.normalize(prompts[0, 0], dim=1)
    assert first @ last < 0.8


def test_masks_of_a_random_decoder_are_not_nearly_0() -> None:
    """From there its gradients were as small, and it learned nothing for hundreds of steps."""
    model = tiny_sam()
    masks = model.decode(model.embed(torch.randn(1, 3, 64, 64)), torch.tensor([[[3.0, 4, 30, 40]]]))
    assert masks.std() > 1e-3


@pytest.mark.parametrize("weights", ["nowhere", "somebody/no-such-model", "empty", "other", "damaged", "adapters"])
def test_what_is_no_sam_gets_a_sentence(weights: str, tmp_path: Path) -> None:
    if weights in ("empty", "other", "damaged", "adapters"):
        weights, kind = str(tmp_path), weights
        if kind == "other":
            (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        elif kind == "damaged":
            tiny_sam().save(tmp_path)
            (tmp_path / "model.safetensors").write_bytes(b"no")
        elif kind == "adapters":
            tiny_sam().save(tmp_path)
            (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"model.weights={weights} "):
        pretrained_sam(weights=weights)


def test_code_and_pickles_in_a_folder_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, code, pickles = tmp_path / "ran", tmp_path / "code", tmp_path / "pickles"
    code.mkdir()
    (code / "config.json").write_text('{"model_type": "other", "auto_map": {"AutoConfig": "own.Config"}}')
    (code / "own.py").write_text(
        f"from transformers import PretrainedConfig\nopen({str(ran)!r}, 'w')\n"
        "class Config(PretrainedConfig):\n    model_type = 'sam'\n"
    )
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # to the question whether to run it
    tiny_sam().save(pickles)
    (pickles / "model.safetensors").unlink()
    torch.save(tiny_sam()._whole[0].state_dict(), pickles / "pytorch_model.bin")
    for folder in (code, pickles):
        with pytest.raises(ValueError, match="is no folder with a SAM"):
            pretrained_sam(weights=str(folder))
    assert not ran.exists()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam, "PACKAGE", "no_such_package_here")
    with pytest.raises(ValueError, match=r"fedvssl\[sam\]"):
        tiny_sam()


def test_adapters_without_their_package_are_refused_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam, "ADAPTERS", "no_such_package_here")
    with pytest.raises(ValueError, match=r"model\.lora\.rank=2 needs peft: .*fedvssl\[sam\]"):
        tiny_sam(lora={"rank": 2, "alpha": 8})
    assert not tiny_sam(lora={"rank": 0, "alpha": 8}).is_adapted


@pytest.mark.parametrize("change", [{"rank": -1}, {"rank": 2.5}, {"rank": True}, {"alpha": 0}, {"dropout": 0.1}])
def test_settings_of_adapters_that_cannot_be_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="must have rank, a whole number from 0, and alpha"):
        tiny_sam(lora={"rank": 2, "alpha": 8, **change})


@pytest.mark.parametrize("change", [{"patch_size": 7}, {"heads": 3}, {"channels": 12}, {"decoder_heads": 3}])
def test_sizes_that_do_not_fit_are_refused(change: dict) -> None:
    sizes = {"image_size": 64, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "window": 4, "channels": 16}
    with pytest.raises(ValueError, match="must be a multiple"):
        random_sam(**{**sizes, "decoder_heads": 2, **change})
