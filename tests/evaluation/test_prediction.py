"""Predictions are those of a model in eval mode, in the order of the list."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fedvssl.evaluation.prediction import predict
from fedvssl.training.loop import build_fabric


class Videos(Dataset):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "frames": torch.full((1,), float(index)),
            "label": torch.tensor(index % 2),
            "index": torch.tensor(index),
        }


class Classifier(nn.Module):
    """Answers with the number of the video, and remembers its mode."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.modes = nn.Dropout(0.5), set()

    def video_logits(self, frames: Tensor) -> Tensor:
        self.modes |= {self.training, self.dropout.training}
        return self.dropout(frames.expand(-1, 3))


def test_dropout_and_statistics_are_those_of_the_test() -> None:
    task = Classifier().train()
    logits, labels = predict(
        build_fabric(device="cpu", precision="32-true"),
        task,  # pyright: ignore[reportArgumentType]
        Videos(),  # pyright: ignore[reportArgumentType]
        batch_size=2,
        num_workers=0,
    )
    assert task.modes == {False}
    assert torch.equal(logits, torch.arange(5.0)[:, None].expand(-1, 3))
    assert labels.tolist() == [0, 1, 0, 1, 0]
