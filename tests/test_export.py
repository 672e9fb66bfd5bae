"""The export command: every format is what was in the checkpoint, the files come together or not at all, mistakes."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fedvssl import export as command
from fedvssl.files.arrays import save_arrays
from fedvssl.files.backbone import load_backbone
from fedvssl.files.settings import sha256
from fedvssl.files.tensors import load_torch, to_arrays
from fedvssl.formats import model_card, onnx_file
from fedvssl.formats.onnx_file import Agreement
from fedvssl.models.r3d import R3D
from tests.files.test_backbone import save, tiny

SMALL = ["model.depth=10", "model.width=4", "clip_len=8", "crop_size=32"]
COPIES = "formats=[safetensors,pth]"


def fill(backbone: R3D) -> R3D:
    """BatchNorms that are not those of a new model, so that one that goes astray shows."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in backbone.state_dict().items():
        if name.endswith("running_mean"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) / 10 - 0.05)
        elif name.endswith(("running_var", "bn1.weight")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(117)
    return backbone.eval()


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def backbone() -> R3D:
    torch.manual_seed(0)
    return fill(tiny())


@pytest.fixture(scope="module")
def exported(backbone: R3D, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export of the small backbone in every format that there is for it."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint = save("round", backbone, folder)
    formats = "formats=[onnx,safetensors,pth]"
    assert command.main([*SMALL, f"checkpoint={checkpoint}", formats]) == 0
    return folder / "export-round-2-weights"


def test_the_files_are_together_and_readable_for_all(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {"backbone.onnx", "backbone.pth", "backbone.safetensors", "README.md"}
    assert not hidden(exported.parent)
    assert len({path.stat().st_mode for path in exported.iterdir()}) == 1


def test_safetensors_and_pth_hold_the_state_under_the_published_names(exported: Path, backbone: R3D) -> None:
    state = backbone.state_dict()
    copied = load_file(exported / "backbone.safetensors")
    published = load_torch(exported / "backbone.pth")["state_dict"]
    assert list(published) == [f"backbone.{name}" for name in state] and copied.keys() == state.keys()
    for name, tensor in state.items():
        for other in (copied[name], published[f"backbone.{name}"]):
            assert torch.equal(tensor, other) and tensor.dtype == other.dtype, name


def test_what_was_exported_is_read_again(exported: Path, backbone: R3D) -> None:
    other = tiny()
    load_backbone(other, exported / "backbone.pth")
    assert torch.equal(other.stem.conv.weight, backbone.stem.conv.weight)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnx_computes_the_features_of_any_batch(exported: Path, backbone: R3D, batch: int) -> None:
    clips = torch.randn(batch, 3, 8, 32, 32, generator=torch.Generator().manual_seed(batch))
    session = onnxruntime.InferenceSession(exported / "backbone.onnx")
    (features,) = session.run(None, {"clips": clips.numpy()})
    with torch.no_grad():
        expected = backbone(clips)
    assert expected.max() > 0.1
    torch.testing.assert_close(torch.from_numpy(features), expected, rtol=1e-4, atol=1e-5)


def test_onnx_of_pictures_takes_any_number_of_them(tmp_path: Path) -> None:
    convolution, path = nn.Conv2d(3, 4, 3), tmp_path / "backbone.onnx"
    onnx_file.write_onnx(convolution, path, input_shape=(3, 8, 8))
    pictures = torch.randn(5, 3, 8, 8)
    (features,) = onnxruntime.InferenceSession(path).run(None, {"pictures": pictures.numpy()})
    torch.testing.assert_close(torch.from_numpy(features), convolution(pictures).detach(), rtol=1e-4, atol=1e-5)


def test_onnx_tells_nothing_of_the_machine(exported: Path) -> None:
    content = (exported / "backbone.onnx").read_bytes()
    assert b"site-packages" not in content and str(Path.cwd()).encode() not in content


def test_the_card_has_sizes_hashes_shapes_and_how_to_load(
    exported: Path, backbone: R3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (exported / "README.md").read_text()
    for name in ("backbone.onnx", "backbone.pth", "backbone.safetensors"):
        file = exported / name
        assert re.search(rf"{re.escape(name)} \|.*\| {file.stat().st_size:,} \| `{sha256(file)}`", card)
    assert sha256(exported.parent / "round-2-weights.npz") in card
    assert "[B, 3, 8, 32, 32]" in card and "[B, 32, 1, 2, 2]" in card and "torchvision" not in card
    assert (
        "no config.yaml" in card
        and "where the largest feature is" in card
        and "@inproceedings{rehman2022fedvssl" in card
    )
    monkeypatch.chdir(exported)
    clips = torch.rand(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = backbone(clips)
        blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        for block, given in zip(blocks, (clips.numpy(), clips), strict=True):  # onnxruntime, ours
            found = {"clips": given}
            exec(block, found)
            torch.testing.assert_close(torch.as_tensor(found["features"]), expected, rtol=1e-4, atol=1e-5)


def test_five_lines_load_a_published_round_into_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    ours = fill(R3D())
    checkpoint = tmp_path / "round-540.npz"
    np.savez(checkpoint, *to_arrays(ours).values())  # without names, as published
    assert command.main([f"checkpoint={checkpoint}", "formats=[torchvision]"]) == 0
    monkeypatch.chdir(tmp_path / "export-round-540")
    card = Path("README.md").read_text()
    assert model_card.TORCHVISION in card and len(model_card.TORCHVISION.split("\n\n")[1].splitlines()) == 3
    found: dict = {}
    exec(model_card.TORCHVISION, found)
    model = found["model"].eval()
    model.fc = torch.nn.Identity()
    clips = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ours(clips).mean((2, 3, 4))
        assert expected.max() > 0.1
        torch.testing.assert_close(model(clips), expected, rtol=1e-4, atol=1e-5)
    again = R3D()
    load_backbone(again, Path("torchvision_r3d_18.safetensors"))  # and back
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save("fine-tuned", tiny(), tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("No space left on device"), ValueError("differs")])
@pytest.mark.parametrize("parts", [["backbone.onnx"], ["backbone.onnx", "backbone.onnx.data"]])
def test_a_failure_in_the_middle_leaves_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, parts: list[str]
) -> None:
    def write(_backbone: object, path: Path, **_options: object) -> None:
        for part in parts:
            path.with_name(part).write_bytes(b"half")
        raise error

    monkeypatch.setattr(command, "write_onnx", write)
    before = sorted(checkpoint.parent.iterdir())
    words = [*SMALL, f"checkpoint={checkpoint}", "formats=[safetensors,onnx]"]
    assert command.main(words) == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert sorted(checkpoint.parent.iterdir()) == before


def test_a_process_that_is_ended_leaves_nothing(checkpoint: Path) -> None:
    folder = checkpoint.parent
    words = [*SMALL, f"checkpoint={checkpoint}", "formats=[safetensors,onnx]"]
    process = subprocess.Popen([sys.executable, "-m", "fedvssl.export", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline().startswith("Loading PyTorch")
    assert process.stdout.readline().startswith("ONNX")  # safetensors is written
    assert hidden(folder)
    process.terminate()
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    assert list(folder.iterdir()) == [checkpoint]


def test_a_second_file_of_weights_stays_with_the_first(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_backbone: object, path: Path, **_options: object) -> Agreement:
        path.write_bytes(b"graph")
        path.with_name(path.name + ".data").write_bytes(b"weights")
        return Agreement(1e-6, 2.0)

    monkeypatch.setattr(command, "write_onnx", write)
    assert command.main([*SMALL, f"checkpoint={checkpoint}", "formats=[onnx]"]) == 0
    folder = checkpoint.parent / "export-x"
    assert {path.name for path in folder.iterdir()} == {"backbone.onnx", "backbone.onnx.data", "README.md"}
    assert sha256(folder / "backbone.onnx.data") in (folder / "README.md").read_text()


def test_onnx_of_other_features_is_refused(exported: Path, backbone: R3D) -> None:
    clips = torch.randn(2, 3, 8, 32, 32)
    assert onnx_file.check(backbone, exported / "backbone.onnx", clips).difference < 1e-4
    with pytest.raises(ValueError, match=r"differ by up to .*, the largest is"):
        onnx_file.check(fill(tiny()), exported / "backbone.onnx", clips)
    backbone_of_nan = fill(tiny())
    torch.nn.init.constant_(backbone_of_nan.stem.bn.weight, float("nan"))
    with pytest.raises(ValueError, match="differ by up to nan"):
        onnx_file.check(backbone_of_nan, exported / "backbone.onnx", clips)


MISTAKES: list[tuple[list[str], str]] = [
    (["checkpoint=null"], "Name the file to export: python -m fedvssl.export checkpoint=<file>"),
    (["checkpoint=nowhere.pth"], "No checkpoint nowhere.pth"),
    (["model.width=8"], "'backbone.stem.conv.weight' is [4, 3, 3, 7, 7]"),
    (["model.depth=18"], "has no 'backbone.layer1.1.conv1.conv.weight'"),
    (["formats=[safetensors,tflite]"], "must be a list of some of: safetensors, pth, torchvision, onnx"),
    (["formats=onnx"], "formats=onnx must be a list"),
    (["formats=[]"], "formats=[] must be a list"),
    (["formats=[torchvision]"], "leave torchvision out"),
    (["crop_size=0"], "crop_size=0 must be a whole number"),
    (["clip_len=a"], "clip_len=a must be a whole number"),
    (["strides=1"], "strides"),
    (["out_dir=."], "not an empty folder"),
    (["out_dir=/"], "not an empty folder"),
    pytest.param(
        ["out_dir=/proc/export"],
        "the disk of /proc/export has 0 left: make room, name another out_dir",
        marks=pytest.mark.skipif(sys.platform != "linux", reason="a full disk that is always there"),
    ),
    (["out_dir=${checkpoint}/export"], "File exists"),
]


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES, ids=lambda value: str(value)[:30])
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], mistake: list[str], sentence: str
) -> None:
    assert command.main([*SMALL, COPIES, f"checkpoint={checkpoint}", *mistake]) == 2
    shown = capsys.readouterr()
    errors = shown.err.strip().splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and sentence in errors[0]
    assert not shown.out and list(checkpoint.parent.iterdir()) == [checkpoint]


def test_values_that_are_not_finite_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = tiny()
    backbone.stem.bn.running_var[0] = float("nan")
    path = save("round", backbone, tmp_path)
    assert command.main([*SMALL, COPIES, f"checkpoint={path}"]) == 2
    assert "'backbone.stem.bn.running_var' in" in capsys.readouterr().err


def test_too_little_space_is_noticed_before_the_work(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1))
    assert command.main([*SMALL, COPIES, f"checkpoint={checkpoint}", "out_dir=/nowhere/yet"]) == 2
    assert re.search(r"needs [\d,]+ bytes and the disk of /nowhere/yet has 1 left", capsys.readouterr().err)


def test_without_the_extra_all_but_onnx_works(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx", "no_such_package"))
    assert command.main([*SMALL, f"checkpoint={checkpoint}", "formats=[pth,onnx]"]) == 2
    error = capsys.readouterr().err
    assert "ONNX needs no_such_package, a package of the extra 'export': pip install -e '.[export]'" in error
    assert error.endswith("Or leave onnx out of formats.\n")
    assert command.main([*SMALL, f"checkpoint={checkpoint}"]) == 0, "as typed: all that is possible"
    left_out = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("Without")]
    assert left_out == ["Without onnx", "Without torchvision"]
    files = {path.name for path in (checkpoint.parent / f"export-{checkpoint.stem}").iterdir()}
    assert files == {"backbone.pth", "backbone.safetensors", "README.md"}


def test_an_unreadable_round_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_arrays(tmp_path / "round-1-weights.npz", {"head.weight": np.zeros(2)})
    assert command.main([*SMALL, COPIES, f"checkpoint={tmp_path / 'round-1-weights.npz'}"]) == 2
    assert "it holds 'head.weight', expected are" in capsys.readouterr().err
