"""Flags of the data tools and of finetune_preprocess: `key=value` is the same as `--key=value`."""

from pathlib import Path

import pytest

from data_tools.command import command_parser
from fedvssl import finetune_preprocess

FLAGS = ("--raw_dir", "--num_workers")


@pytest.mark.parametrize(
    ("words", "raw_dir"),
    [
        (["raw_dir=a b", "num_workers=3"], "a b"),
        (["--raw_dir=a", "--num_workers", "3"], "a"),
        (["--raw_dir", "raw_dir=a", "num_workers=3"], "raw_dir=a"),
        (["raw_dir=a=b", "--num_workers=3"], "a=b"),
    ],
)
def test_both_spellings(words: list[str], raw_dir: str) -> None:
    parser = command_parser("text")
    for flag in FLAGS:
        parser.add_argument(flag)
    found = parser.parse_args(words)
    assert (found.raw_dir, found.num_workers) == (raw_dir, "3")


def test_an_unknown_key_stays_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_parser("text")
    parser.add_argument("--raw_dir")
    with pytest.raises(SystemExit):
        parser.parse_args(["raw=a"])
    assert "unrecognized arguments: raw=a" in capsys.readouterr().err


def test_finetune_preprocess() -> None:
    found = finetune_preprocess._parse(["pretrained_model_path=a=b.npz", "--output_path=c.pth"])
    assert (found.pretrained_model_path, found.output_path) == (Path("a=b.npz"), Path("c.pth"))
