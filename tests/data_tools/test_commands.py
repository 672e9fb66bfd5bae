"""The tools as they are started: exit codes, messages, and scripts/prepare_ucf101.sh from raw videos to clients."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.synthetic import SyntheticSet, write_dataset
from fedvssl.data.annotations import read_annotations

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "flags", "message"),
    [
        ("extract_frames", ("--raw_dir", "nowhere", "--out_dir", "out"), "error: No folder nowhere"),
        (
            "partition",
            ("--json_path", "nowhere.json", "--output_path", "out"),
            "error: No annotation file nowhere.json",
        ),
        ("synthetic", ("--num_classes", "99", "--out_dir", "out"), "error: num_classes=99"),
        ("prepare", ("--raw_dir", ".", "--ann_dir", "nowhere", "--out_dir", "out"), "error: No folder nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path: Path, module: str, flags: tuple[str, ...], message: str) -> None:
    result = run(sys.executable, "-m", f"data_tools.{module}", *flags, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_prepare_ucf101_script(tmp_path: Path) -> None:
    write_dataset(tmp_path / "own clips", SyntheticSet(2, 3, 1, width=48, height=32, num_frames=4))
    flags = ("--data_dir", str(tmp_path / "data"), "--name=own", "--num_clients", "3", "--short_side", "16")
    raw, lists = (str(tmp_path / "own clips" / name) for name in ("raw", "lists"))
    command = ("bash", str(ROOT / "scripts/prepare_ucf101.sh"), *flags, "--raw_dir", raw, "--ann_dir", lists)
    for kept in (0, 8):  # the second run finds everything there
        result = run(*command, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"{8 - kept} videos extracted, {kept} kept from before, 0 failed." in result.stdout
    annotations = tmp_path / "data/own/annotations"
    assert len(read_annotations(annotations / "test_split_1.json")) == 2
    clients = [read_annotations(annotations / f"client_distribution/client_dist{n}.json") for n in (1, 2, 3)]
    assert [len(client) for client in clients] == [2, 2, 2]
    assert all((tmp_path / f"data/own/zips/{a.name}.zip").is_file() for client in clients for a in client)


@pytest.mark.parametrize("flags", [("--unknown", "1"), ("--num_clients",), ("--num_clients", "0")])
def test_prepare_ucf101_script_refuses_nonsense(flags: tuple[str, ...]) -> None:
    result = run("bash", "scripts/prepare_ucf101.sh", *flags)
    assert result.returncode == 2 and result.stderr.startswith("error: ")
