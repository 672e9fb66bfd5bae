import json

import numpy as np
import pytest
import torch
from flwr.common import ndarrays_to_parameters

from fedvssl.files.arrays import save_arrays
from fedvssl.files.backbone import name_by_position
from fedvssl.files.tensors import load_torch, save_torch, to_arrays
from fedvssl.finetune_preprocess import main
from fedvssl.models.r3d import R3D
from fedvssl.models.resnet import ResNet
from tests.parity.reference import load_json

TINY = ["model.depth=10", "model.width=4"]


@pytest.fixture(scope="module")
def published() -> list[np.ndarray]:
    """The 126 arrays of a Catch-the-Patch model in the published order, counters turned into floats by averaging."""
    rng = np.random.default_rng(0)
    arrays = []
    for name, shape, _ in load_json("r3d18_info")["ctp_model"]["state_dict"]:
        is_counter = name.endswith("num_batches_tracked")
        arrays.append(np.array(477.0) if is_counter else rng.standard_normal(shape, dtype=np.float32))
    return arrays


def assert_loads(path, expected: list[np.ndarray]) -> None:
    state = torch.load(path, weights_only=True)
    assert all(name.startswith("backbone.") for name in state)
    backbone = R3D()
    backbone.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in state.items()})
    for tensor, array in zip(backbone.state_dict().values(), expected, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert tensor.dtype in (torch.float32, torch.int64)


@pytest.mark.parametrize("count", [120, 126])
@pytest.mark.parametrize("form", ["parameters", "object array"])
def test_published_checkpoints(count, form, published, tmp_path, monkeypatch):
    content = np.empty(count, dtype=object)
    content[:] = published[:count]
    if form == "parameters":
        content = np.array(ndarrays_to_parameters(published[:count]), dtype=object)
    np.savez(tmp_path / "round-540.npz", content)
    monkeypatch.chdir(tmp_path)
    assert main(["--pretrained_model_path=round-540.npz"]) == 0
    assert_loads(tmp_path / "model_pretrained.pth", published[:120])


def test_our_checkpoints_keep_the_backbone_and_leave_the_head(tmp_path):
    arrays = {f"backbone.{name}": array for name, array in to_arrays(R3D(10, width=4)).items()}
    save_arrays(tmp_path / "round-2-weights.npz", {**arrays, "head.fc1.weight": np.zeros((2, 2), np.float32)})
    output = tmp_path / "sub" / "start.pth"
    assert main([f"--pretrained_model_path={tmp_path / 'round-2-weights.npz'}", f"--output_path={output}", *TINY]) == 0
    state = load_torch(output)
    assert list(state) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(state[name].numpy(), array)
        assert state[name].numpy().dtype == array.dtype


def test_the_model_is_that_of_the_run_or_the_one_that_fits(tmp_path, capsys):
    settings = {"_target_": "fedvssl.models.r3d.R3D", "depth": 10, "width": 2}
    (tmp_path / "config.yaml").write_text(json.dumps({"model": settings}))
    save_arrays(tmp_path / "round-2-weights.npz", to_arrays(R3D(10, width=2)))
    save_torch(tmp_path / "net.pth", {"module": ResNet(18).state_dict()})
    for name, words in {"round-2-weights.npz": "read from bare names", "net.pth": "is of model=resnet18"}.items():
        path, output = tmp_path / name, tmp_path / f"{name}.out"
        assert main([f"--pretrained_model_path={path}", f"--output_path={output}"]) == 0
        assert f"{path}: the backbone is read" in (shown := capsys.readouterr().out) and words in shown
        assert all(key.startswith("backbone.") for key in load_torch(output))


@pytest.mark.parametrize(
    ("config", "words", "sentence"),
    [
        ({"model": {"_target_": "os.system", "command": "true"}}, [], "names os.system: name the model yourself"),
        ({}, [], "in this configuration: check model. Or name its model, such as model=resnet18"),
        ({}, ["model.depth=34"], "in this configuration: check model.\n"),
    ],
)
def test_another_model_is_refused(config, words, sentence, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    save_arrays(tmp_path / "round-2-weights.npz", to_arrays(R3D(10, width=2)))
    output = tmp_path / "out.pth"
    assert main([f"--pretrained_model_path={tmp_path / 'round-2-weights.npz'}", f"--output_path={output}", *words]) == 2
    assert sentence in capsys.readouterr().err and not output.exists()


def test_a_word_that_is_no_setting_of_a_model_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([f"--pretrained_model_path={tmp_path / 'x.pth'}", "crop_size=3"])
    assert "crop_size=3 is no setting of a model: write model=<name>" in capsys.readouterr().err


def test_the_doubled_list_of_the_baseline_is_refused(published):
    with pytest.raises(ValueError, match="252 arrays, which the published Flower baseline makes by concatenating"):
        name_by_position([*published, *published], R3D().state_dict())


@pytest.mark.parametrize("count", [0, 119, 240])
def test_other_lengths_are_refused(count, published):
    with pytest.raises(ValueError, match=f"has {count} arrays; this backbone has 120"):
        name_by_position((published * 2)[:count], R3D().state_dict())


def test_a_wrong_shape_is_named(published):
    arrays = list(published[:120])
    arrays[6] = arrays[6][:1]
    with pytest.raises(ValueError, match=r"Array for 'layer1\.0\.conv1\.conv\.weight' has shape \(1, 64, 3, 3, 3\)"):
        name_by_position(arrays, R3D().state_dict())


@pytest.mark.parametrize("content", ["missing", "text", "damaged", "no backbone"])
def test_mistakes_end_with_a_sentence(content, tmp_path, capsys):
    path = tmp_path / "round.npz"
    if content == "text":
        path.write_text("text")
    if content == "damaged":
        save_arrays(path, {"head.weight": np.zeros(1)})
        path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x00\x00"))  # the list of its entries
    if content == "no backbone":
        save_arrays(path, {"head.weight": np.zeros(1)})
    assert main([f"--pretrained_model_path={path}", f"--output_path={tmp_path / 'out.pth'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(path) in error and error.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()
