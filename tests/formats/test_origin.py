"""What the card tells of a checkpoint's training and evaluation, read from the folder around it."""

import json
import re
from pathlib import Path

import pytest
import yaml

from fedvssl.config import compose
from fedvssl.data.annotations import Annotation
from fedvssl.data.seen import SEEN_FILE, seen_videos
from fedvssl.files.arrays import save_arrays
from fedvssl.files.tensors import save_torch
from fedvssl.formats.model_card import Card, model_card
from fedvssl.formats.origin import evaluations, origin_names, training_facts

RESULT = {
    "protocol": "retrieval",
    "dataset": "ucf6",
    "split": 1,
    "checkpoint": "/somewhere/else/round-8-weights.npz",
    "rows": {"checkpoint": {"R@1": 0.4123, "R@5": 0.7}, "random": {"R@1": 0.2}},
    "intervals": {"checkpoint": {"R@1": [0.331, 0.498]}},
}


def run_folder(folder: Path, name: str, *overrides: str) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(compose(name, list(overrides))))
    return folder


def test_pretraining(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "base", "data.name=ucf6", "strategy.mix_coeff=0.7", "seed=11", "data_dir=/secret")
    facts = training_facts(folder / "round-8-weights.npz")
    assert facts["pre-training data"] == "ucf6 split 1, without labels"
    assert (facts["strategy"], facts["alpha (mix_coeff)"], facts["beta (swbeta)"]) == ("FedVSSL", "0.7", "1")
    assert (facts["pretext task"], facts["seed"]) == ("CtP", "11")
    assert facts["rounds"] == "8 (the run was set to 20)" and facts["clients"].startswith("5, of which")
    assert facts["clips"] == "16 frames, crops of 112 pixels" and "secret" not in str(facts)
    assert (facts["optimizer"], facts["schedule"]) == ("SGD", "Steps")


def test_a_run_before_the_task_had_its_name_tells_the_same(tmp_path: Path) -> None:
    facts = training_facts(run_folder(tmp_path, "base") / "round-8-weights.npz")
    config = compose("base", [])
    config["pretext"] = {**config.pop("task")}
    config["pretext"]["task"] = config["pretext"].pop("module")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert training_facts(tmp_path / "round-8-weights.npz") == facts


@pytest.mark.parametrize(("name", "checkpoint"), [("base", "round-8-weights.npz"), ("finetune", "last.pth")])
def test_a_run_before_the_optimizer_had_a_section_names_none(tmp_path: Path, name: str, checkpoint: str) -> None:
    facts = training_facts(run_folder(tmp_path, name, "optimizer=adamw", "schedule=cosine") / checkpoint)
    assert (facts.pop("optimizer"), facts.pop("schedule")) == ("AdamW", "Cosine")
    config = compose(name, ["optimizer=adamw", "schedule=cosine"])
    for section in ("optimizer", "schedule"):
        del config["training"][section]
    del config["data"]["validation"], config["data"]["validation_seed"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert training_facts(tmp_path / checkpoint) == facts


def test_fedavg_has_neither_alpha_nor_beta(tmp_path: Path) -> None:
    facts = training_facts(run_folder(tmp_path, "base", "strategy.fedavg=true") / "round-1-weights.npz")
    assert facts["strategy"] == "FedAvg of the whole model" and not [name for name in facts if "alpha" in name]


@pytest.mark.parametrize(
    ("strategy", "name", "share"),
    [
        ("fedvssl", "FedVSSL", "backbone.*"),
        ("fedu", "FedAvg with FedU on the clients", "*"),
        ("fedmedian", "FedMedian", "backbone.*"),
        ("fedbn", "FedAvg", "*, !*bn*, !*downsample.1.*"),
    ],
)
def test_the_card_names_both_halves_of_a_strategy_and_what_travels(strategy, name, share, tmp_path: Path) -> None:
    facts = training_facts(run_folder(tmp_path, "base", f"strategy={strategy}") / "round-1-weights.npz")
    assert (facts["strategy"], facts["arrays that travel"]) == (name, share)


def test_finetuning(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "finetune", "pretrained=/secret/k400.pth", "training.epochs=3")
    facts = training_facts(folder / "best.pth")
    assert facts["started from"] == "k400.pth" and facts["epochs"] == "an unknown number (the run was set to 3)"
    assert "ucf101 split 1, with labels (101 classes)" in facts["fine-tuned on"]
    assert facts["epoch"] == "chosen by its accuracy on the test videos", "by an earlier version"
    held_out = run_folder(tmp_path, "finetune", "data.validation=0.2", "data.validation_seed=3")
    assert training_facts(held_out / "last.pth")["held out"] == "0.2 of the training videos (seed 3)"
    assert training_facts(held_out / "best.pth")["held out"].endswith("; the epoch was chosen by their accuracy")
    scratch = training_facts(run_folder(tmp_path, "finetune", "from_scratch=true") / "last.pth")
    assert scratch["started from"] == "random weights"


@pytest.mark.parametrize("name", ["last.pth", "best.pth"])
def test_the_epochs_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    checkpoint = run_folder(tmp_path, "finetune", "training.epochs=150") / name
    save_torch(checkpoint, {"epoch": 3})
    assert training_facts(checkpoint)["epochs"] == "3 (the run was set to 150)"


def test_test_videos_in_the_training_are_told(tmp_path: Path) -> None:
    checkpoint = run_folder(tmp_path, "base") / "round-8-weights.npz"
    checkpoint.touch()
    assert "test videos" not in training_facts(checkpoint)
    videos = [Annotation(f"a/{number}", 0) for number in range(3)]
    save_arrays(tmp_path / SEEN_FILE, seen_videos("ucf101", videos, stage="pre-training", allowed=videos[1:]))
    assert training_facts(checkpoint)["test videos"].startswith("pre-training had 2 of those of its split")


@pytest.mark.parametrize(
    ("config", "checkpoint"),
    [("finetune", "model_pretrained.pth"), ("finetune", "round-8-weights.npz"), ("base", "last.pth")],
)
def test_the_configuration_of_another_run_is_left_aside(tmp_path: Path, config: str, checkpoint: str) -> None:
    assert training_facts(run_folder(tmp_path, config) / checkpoint) == {}


def test_no_configuration_says_nothing(tmp_path: Path) -> None:
    assert training_facts(tmp_path / "round-8-weights.npz") == {} and evaluations(tmp_path / "last.pth") == []


@pytest.mark.parametrize(("text", "sentence"), [("a: [", "is damaged"), ("strategy: {}\n", "not the one of a run")])
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.yaml.*{sentence}"):
        training_facts(tmp_path / "round-8-weights.npz")


def write_result(folder: Path, name: str, content: object) -> None:
    path = folder / "evaluation" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_evaluations_of_this_checkpoint_and_no_others(tmp_path: Path) -> None:
    write_result(tmp_path, "round-8-ucf6-split1/retrieval.json", RESULT)
    write_result(tmp_path, "round-9-ucf6-split1/retrieval.json", {**RESULT, "checkpoint": "round-9-weights.npz"})
    write_result(tmp_path, "round-8-ucf6-split1/neighbours.json", [1, 2])
    write_result(tmp_path, "round-8-ucf6-split1/other.json", {"protocol": "x"})
    assert evaluations(tmp_path / "round-8-weights.npz") == [RESULT]
    (tmp_path / "evaluation/round-8-ucf6-split1/other.json").write_text("{")
    with pytest.raises(ValueError, match=r"other\.json is damaged"):
        evaluations(tmp_path / "round-8-weights.npz")


def test_the_card_prints_them(tmp_path: Path) -> None:
    checkpoint = run_folder(tmp_path, "base") / "round-8-weights.npz"
    checkpoint.write_bytes(b"x")
    write_result(tmp_path, "a/retrieval.json", RESULT)
    held_out = {"part": "validation", "held_out": "in whole groups", "num_test": 48, "seen": {"pre-training": 9}}
    held_out |= {"num_clips": 3, "clip_len": 8, "frame_stride": 2, "crop_size": 64, "seed": 7}
    write_result(tmp_path, "b/retrieval.json", {**RESULT, **held_out})
    card = Card(
        checkpoint=checkpoint,
        model={"_target_": "fedvssl.models.r3d.R3D", "depth": 18, "width": 64},
        summary="A network.",
        num_parameters=33_166_272,
        num_entries=120,
        input_shape=(3, 16, 112, 112),
        feature_shape=(512, 2, 7, 7),
        frame_stride=2,
        training=training_facts(checkpoint),
        evaluations=evaluations(checkpoint),
        names=origin_names(checkpoint) | {"R3D"},
        agreement=None,
        versions={"fedvssl": "1"},
    )
    text = model_card(card, [])
    assert "| beta (swbeta) | 1 |" in text and "33,166,272" in text and "0.485, 0.456, 0.406" in text
    unknown = "? clips each, length and picture size not recorded, seed not recorded, percent"
    assert f"retrieval on ucf6 split 1, {unknown}:" in text
    videos = "48 validation videos (held out in whole groups) of ucf6 split 1"
    known = "3 clips each, 64 pixels, 8 frames, stride 2, seed 7, percent; pre-training had 9"
    assert f"retrieval on {videos}, {known}" in text
    assert "|  | R@1 | R@5 |" in text and "| checkpoint | 41.23 [33.1, 49.8] | 70.00 |" in text
    assert "| random | 20.00 | - |" in text
    assert str(tmp_path) not in text
    cited = ["rehman2022fedvssl", "wang2021ctp", "soomro2012ucf101"]
    assert re.findall(r"^@\w+{(\w+),$", text, flags=re.MULTILINE) == cited and "keywords" not in text
    assert "of which nothing is in these files. UCF-101 is a collection of other people's videos" in text
