"""What a machine cannot give is refused in a sentence."""

import pytest
import torch

from fedvssl.training import processes
from fedvssl.training.loop import build_fabric


@pytest.mark.parametrize(
    ("device", "devices", "num_gpus", "sentence"),
    [
        ("auto", 3, 2, "3 GPUs are asked for and 2 are here"),
        ("cuda", 1, 0, "1 GPUs are asked for and 0 are here"),
        ("auto", 0, 0, "devices=0 is not a number of processes"),
        ("auto", "two", 0, "devices=two is not a number of processes"),
        ("tpu", 1, 0, "device=tpu is unknown"),
    ],
)
def test_refused(monkeypatch, device, devices, num_gpus, sentence) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(ValueError, match=sentence):
        processes.check_devices(device=device, devices=devices)


@pytest.mark.parametrize(("device", "devices", "num_gpus"), [("auto", 2, 2), ("auto", 4, 0), ("cpu", 4, 1)])
def test_accepted(monkeypatch, device, devices, num_gpus) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    processes.check_devices(device=device, devices=devices)


def test_says_where_it_computes(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fabric = build_fabric(device="cpu", precision="32-true")
    assert processes.where(fabric) == "1 CPU process (no GPU here), 32-true"


def test_one_process_reduces_to_its_own_values_and_keeps_plain_batch_norm() -> None:
    fabric = build_fabric(device="cpu")
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(processes.reduce(fabric, values, how="mean"), values)
    norm = torch.nn.BatchNorm3d(2)
    assert processes.synchronise_batch_norm(fabric, norm) is norm


def test_the_sentence_of_an_error_comes_without_the_traceback_of_a_worker() -> None:
    assert processes.sentence(ValueError("No file x.")) == "No file x."
    caught = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n  ...\nValueError: No file x.\n"
    assert processes.sentence(ValueError(caught)) == "No file x."
