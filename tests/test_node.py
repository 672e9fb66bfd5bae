import json

import pytest
from flwr.common.config import parse_config_args

from fedvssl.client.node import read_node_config, read_precisions
from fedvssl.node import main
from tests.federation import write_clients


@pytest.fixture
def told(tmp_path) -> dict[str, str]:
    write_clients(tmp_path, (2,))
    lists = tmp_path / "ucf101/annotations/client_distribution/client_dist1.json"
    places = {"media_dir": str(tmp_path / "ucf101/zips"), "list": str(lists), "state_dir": str(tmp_path / "state")}
    return {"client": "3", "owner": 'St "Mary"', "device": "cpu", **places}


def words(told: dict[str, str]) -> list[str]:
    return [word for name, value in told.items() for word in (f"--{name}", value)]


def test_flower_reads_what_the_command_prints(told, tmp_path, capsys):
    assert main(words(told)) == 0
    out, err = capsys.readouterr()
    partition_id, site = read_node_config(parse_config_args([out.strip()]))
    assert partition_id == 2 and site.owner == 'St "Mary"' and site.state_dir == told["state_dir"]
    assert site.precisions == read_precisions(tmp_path / "state") and site.precisions[0] == "32-true"
    assert err == f"2 samples in {told['media_dir']}, all there; computes in {', '.join(site.precisions)}\n"


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({"client": "0"}, "clients are counted from 1"),
        ({"owner": "O'Hara"}, "O'Hara has an apostrophe"),
        ({"owner": "St\nMary"}, "'St\\nMary' has a character that cannot be printed"),
        ({"media_dir": "/nowhere"}, "There is no folder /nowhere"),
        ({"list": "/nowhere.json"}, "No annotation file /nowhere.json"),
    ],
)
def test_a_mistake_is_one_sentence(others, sentence, told, capsys):
    assert main(words({**told, **others})) == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and err.count("\n") == 1


def test_a_first_sample_that_cannot_be_read_is_told_at_the_start(told, tmp_path, capsys):
    (tmp_path / "ucf101/zips/Class0/v0_0.zip").write_bytes(b"no zip")
    assert main(words(told)) == 2
    assert "v0_0.zip" in capsys.readouterr().err


def test_damaged_precisions_count_as_unknown(tmp_path):
    for text in ("[", "3", '"32-true"', json.dumps({"32-true": 1})):
        (tmp_path / "precisions.json").write_text(text)
        assert read_precisions(tmp_path) == ()
