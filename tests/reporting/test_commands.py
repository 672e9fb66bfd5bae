"""Commands that a report names: each composes as it is printed, for the videos and the model of its run."""

import html
import re
import shlex
from pathlib import Path

import pytest

from fedvssl import report
from fedvssl.config import read_command_line
from tests.run_folders import write_pretraining

OWN = ("data.name=mine", "data.num_classes=6", "model.depth=10", "model.width=16", "eval.sample.crop_size=32")
PRINTED = re.compile(r"python -m fedvssl\.(\w+) ([^\n<]+)")


def test_printed_commands_can_be_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_pretraining(tmp_path / "a b", evaluated=False, overrides=OWN)
    assert report.main([str(run)]) == 0
    parts = re.findall(r'<div class="missing">(.*?)</div>', (run / "report.html").read_text(), re.DOTALL)
    found = [command for part in parts for command in PRINTED.findall(html.unescape(part))]
    names = {"retrieval", "knn", "linear_probe", "motion_probe", "finetune", "test", "report"}
    assert names <= {name for name, _ in found}
    for name, text in found:
        words = shlex.split(text)
        if name == "report":
            assert report._parse(words).run == str(run)
        elif name == "verdict":
            assert words == [f"run={run}"]
        elif name != "main":  # whose settings are for the reader to fill in
            assert "<" not in text
            settings = read_command_line(name, words if name in ("finetune", "test") else [name, *words])
            assert settings["data"]["name"] == "mine" and settings["data"]["num_classes"] == 6
            assert settings["model"]["width"] == 16 and settings["crop_size"] == 32
            if "checkpoint" in text or "pretrained" in text:
                assert str(run / "round-4-weights.npz") in (settings.get("checkpoint"), settings.get("pretrained"))
