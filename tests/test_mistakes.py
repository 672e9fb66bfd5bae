"""Mistakes on a command line: the nearest name, and none of Hydra's own words."""

import subprocess
import sys

import pytest

from fedvssl import config
from fedvssl.early import answered
from fedvssl.mistakes import did_you_mean
from fedvssl.overrides import parse_overrides


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("round=5", r"'round' is no setting here\. Did you mean rounds\?"),
        ("strategy.mixcoeff=1", r"Did you mean strategy\.mix_coeff\?"),
        ("mix_coeff=1", r"Did you mean strategy\.mix_coeff\?"),
        ("strateggy=fedavg", r"Did you mean strategy\?"),
        ("~strategy.fedavgg", r"Did you mean strategy\.fedavg\?"),
        ("+round=5", r"'\+round=5' has no effect: round is no setting\. Did you mean rounds\?"),
        ("+strategyy.x=5", r"has no effect"),
        ("+seed=5", "'seed' is a setting already: leave out the [+]"),
        ("experiment=smal", r"experiment=smal is unknown\. Did you mean experiment=small\? There are: .*small_clips"),
        ("experiment=fedu_ablations", "experiment=fedu_ablations has no settings of this kind of command, only: sweep"),
        ("strategy=fedavgg", r"Did you mean strategy=fedavg\?"),
        ("task=null", r"task=null is unknown\. There are: .*ctp"),
        ("task=nan", r"task=nan is unknown\. There are: .*ctp"),
        ("seed=1,2", r"write a list as key=\[a,b\]; fedvssl\.sweep"),
        ("training.steps=[1", r"cannot read training\.steps=\[1: close brackets"),
        ("training=[1]", r"training=\[1\] does not fit: this setting is a section, of which single settings are set"),
        ("eval.sample.size={a:1}", r"eval\.sample\.size=\{a:1\} does not fit: this setting is a list, such as \[1,2\]"),
        ("hydra.run.dir=null", r"hydra\.run\.dir=null does not fit: this setting is one text or number"),
        ("hydra=null", "hydra=null is unknown"),
        ("~training", "'~training' takes out what is needed: give training another value"),
        ("~training.batch_size", "'~training.batch_size' takes out what is needed"),
        ("~strategy.min_fit_clients", "'~strategy.min_fit_clients' takes out what is needed"),
        ("~eval.sample._target_", "'~eval.sample._target_' takes out what is needed"),
        ("exp_name=${nowhere}", r"'exp_name' refers to a setting that is not there"),
    ],
)
def test_a_mistake_gets_a_sentence_of_ours(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as raised:
        config.compose("base", parse_overrides([word]))
    for foreign in ("Hydra", "searchpath", "search path", "To append", "LexerNoViable", "EOF", "\n"):
        assert foreign not in str(raised.value)


def test_an_endless_flag_is_told_to_be_a_flag() -> None:
    with pytest.raises(ValueError, match=r"verbose=inf must be true or false\.$"):
        config.compose("base", ["verbose=inf"])


def test_a_file_that_is_no_yaml_is_told_with_the_line(tmp_path) -> None:
    (path := tmp_path / "mine.yaml").write_text("defaults: [finetune]\nseed: 3\n  x: [\n")
    with pytest.raises(ValueError, match=r"cannot be read as YAML at line \d: mend the file there"):
        config.compose(str(path), [])


@pytest.mark.parametrize("sign", [*"=#~'\"[]{}()&;,ü ", "a = b"])
def test_paths_with_any_sign_reach_every_command(sign: str) -> None:
    path = f"/data/x{sign}y"
    for command in ("base", "finetune", "knn", "sweep"):
        for word in (f"data_dir={path}", f"--data_dir={path}"):
            assert config.compose(command, parse_overrides([word]))["data_dir"] == path
    assert config.compose("base", config.for_hydra([f"data_dir={path}"]))["data_dir"] == path


@pytest.mark.parametrize("command", ["main", "finetune", "knn", "export", "sweep"])
def test_the_version_is_that_of_this_package(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answered(command, ["--version"]) and capsys.readouterr().out.startswith("fedvssl ")


def test_mistakes_are_told_before_pytorch_is_imported() -> None:
    mistakes = [["finetune", "finetune", "seeed=1"], ["knn", "protocol.ks=0"], ["export", "crop_size=0"]]
    mistakes += [["sweep", "seed=1"]]
    code = (
        "import sys; from fedvssl.early import answered\n"
        f"for command, *words in {mistakes}:\n"
        "  try: answered(command, words)\n"
        "  except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = ran.stderr.splitlines()
    assert ran.stdout == "2 False\n" * 4 and len(told) == 4 and all(line.startswith("error: ") for line in told)


def test_a_name_is_not_suggested_for_itself() -> None:
    assert did_you_mean("optimizer", ["optimizer", "seed"]) == ""
