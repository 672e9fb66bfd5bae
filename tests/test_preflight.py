import logging

import pytest
import torch

from fedvssl import preflight
from fedvssl.preflight import fit_precision, settle, try_out
from fedvssl.tasks.ctp import CtP
from tests.federation import report_of, tiny_config, write_clients


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="fedvssl")
    return caplog


@pytest.fixture
def machine(monkeypatch):
    """Two cores and no GPU, unless the test calls it."""

    def be(cores: int, gpus: int) -> None:
        monkeypatch.setattr(preflight, "num_cores", lambda: cores)
        monkeypatch.setattr(preflight, "gpus_here", lambda: gpus)

    be(2, 0)
    return be


@pytest.mark.parametrize(
    ("cores", "gpus", "asked", "given", "told"),
    [
        (2, 0, (1.0, 2), (0, 2), ["No GPU here"]),
        (8, 1, (1.0, 2), (1.0, 2), []),
        (8, 4, (0.25, 2), (0.25, 2), []),
        (8, 1, (2.0, 2), (1, 2), ["num_gpus=2 lowered to the 1 here"]),
        (1, 0, (0, 2), (0, 1), ["num_cpus=2 lowered to the 1 cores here"]),
        (8, 1, (0, 2), (0, 2), []),
    ],
)
def test_resources_are_lowered_to_what_exists(cores, gpus, asked, given, told, data_dir, machine, lines):
    machine(cores, gpus)
    config = tiny_config(data_dir, f"client_resources={{num_gpus: {asked[0]}, num_cpus: {asked[1]}}}")
    resources = settle(config)["client_resources"]
    assert (resources["num_gpus"], resources["num_cpus"]) == given
    assert len(lines.messages) == len(told) and all(a in b for a, b in zip(told, lines.messages, strict=True))


def test_fewer_clients_than_the_default_minimum_lower_the_minimum(data_dir, machine, lines):
    config = tiny_config(data_dir, "pool_size=3", "strategy.min_fit_clients=5")
    assert settle(config)["strategy"]["min_fit_clients"] == 3
    assert lines.messages == ["strategy.min_fit_clients=5 lowered to pool_size."]
    assert config["strategy"]["min_fit_clients"] == 5, "the argument stays as it was"


@pytest.mark.parametrize(
    "override",
    [
        "rounds=0",
        "pool_size=0",
        "seed=-1",
        "training.local_epochs=0",
        "training.batch_size=0",
        "training.num_workers=-1",
        "client_resources.num_gpus=-1",
        "client_resources.num_cpus=0",
        "round_timeout=0",
        "keep_last=0",
    ],
)
def test_numbers_out_of_range_are_named(override, data_dir, machine):
    with pytest.raises(ValueError, match=f"{override} must be .*at least"):
        settle(tiny_config(data_dir, override))


def test_good_data_passes(data_dir, lines):
    try_out(tiny_config(data_dir))
    assert lines.messages == ["3 clients, 12 samples"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("rounds=abc", "rounds=abc must be a whole number"),
        ("rounds=2.5", "rounds=2.5 must be a whole number"),
        ("pool_size=true", "pool_size=True must be a whole number"),
        ("training.lr=fast", "training.lr=fast must be null or a number"),
        ("training.steps=5", "training.steps=5 must be null or a list"),
        ("training.steps=[a]", r"training.steps=\['a'\] must be null or a list"),
        ("training.steps=[true]", r"training.steps=\[True\] must be null or a list"),
        ("strategy.min_fit_clients=most", "strategy.min_fit_clients=most must be a whole number"),
    ],
)
def test_wrong_types_are_named(override, sentence, data_dir, machine):
    with pytest.raises(ValueError, match=sentence):
        settle(tiny_config(data_dir, override))


@pytest.fixture
def with_gaps(tmp_path):
    """Client 0 lacks its first video, client 1 its last two."""
    write_clients(tmp_path)
    for name in ("v0_0", "v1_2", "v1_3"):
        (tmp_path / f"ucf101/zips/Class{name[1]}/{name}.zip").unlink()
    return tmp_path


def test_clients_without_all_their_videos_are_named_and_the_rest_goes_on(with_gaps, lines):
    try_out(tiny_config(with_gaps, "strategy.min_fit_clients=1"))
    assert [record.levelname for record in lines.records] == ["WARNING", "WARNING", "INFO"]
    assert lines.messages[0].startswith("client_dist1.json: 1 of 3 samples are missing in ")
    assert lines.messages[1].startswith("client_dist2.json: 2 of 4 samples") and "Class1/v1_2;" in lines.messages[1]
    assert lines.messages[2] == "1 clients, 5 samples"


def test_too_few_clients_with_all_their_videos_are_a_mistake(with_gaps):
    with pytest.raises(
        ValueError, match=r"1 of 3 clients have all .* asks for 2: .* \(client_dist1\.json: 1 of 3 .*v0_0"
    ):
        try_out(tiny_config(with_gaps, "strategy.min_fit_clients=2"))


def test_more_lists_than_clients_are_told(data_dir, lines):
    try_out(tiny_config(data_dir, "pool_size=2"))
    assert "holds the lists of 3 clients; the first 2 take part" in lines.messages[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["pool_size=7"], "pool_size=7, but .* holds the lists of 3 clients: set pool_size=3"),
        (["pool_size=4", "strategy.min_fit_clients=4"], "pool_size=4, but .* holds the lists of 3 clients"),
        (["data.name=hmdb51"], r"No client_dist<N>\.json in "),
        (["data.media_dir=/nowhere"], "No folder /nowhere: set data_dir"),
        (["task.sample.crop_size=40"], "crop_size=40"),
    ],
)
def test_mistakes_are_found_before_the_start(overrides, message, data_dir):
    with pytest.raises(ValueError, match=message):
        try_out(tiny_config(data_dir, *overrides))


def test_a_missing_first_video_is_named(data_dir, tmp_path):
    with pytest.raises(ValueError, match="v0_0"):
        try_out(tiny_config(data_dir, f"data.media_dir={tmp_path}"))


LISTS = "ucf101/annotations/client_distribution"
BROKEN = {
    "cut off": lambda path: path.write_text('[{"name": "Cl'),
    "empty": lambda path: path.write_text("[]"),
    "no list": lambda path: path.write_text("{}"),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "nested": lambda path: path.write_text("[" * 10**5),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a name that no file can have": lambda path: path.write_text('[{"name": "' + "x" * 5000 + '", "label": 1}]'),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("number", [1, 3])
def test_a_broken_list_stops_its_client_only(fault, number, tmp_path, lines):
    write_clients(tmp_path, (1, 1, 1))
    BROKEN[fault](tmp_path / LISTS / f"client_dist{number}.json")
    config = tiny_config(tmp_path, "strategy.min_fit_clients=2")
    (video,) = try_out(config).dataset.annotations
    assert video.name == ("Class1/v1_0" if number == 1 else "Class0/v0_0")
    assert [record.levelname for record in lines.records] == ["WARNING", "INFO"]
    assert f"client_dist{number}.json" in lines.messages[0] and lines.messages[1] == "2 clients, 2 samples"
    with pytest.raises(ValueError, match=rf"asks for 3.*client_dist{number}\.json|holds the lists of 2 clients"):
        try_out(tiny_config(tmp_path))


def test_a_damaged_video_stops_its_client_only(tmp_path):
    write_clients(tmp_path, (2, 1))
    (tmp_path / "ucf101/zips/Class0/v0_1.zip").write_bytes(b"PK")
    assert [video.name for video in try_out(tiny_config(tmp_path, num_clients=2)).dataset.annotations] == [
        "Class1/v1_0"
    ]
    (tmp_path / "ucf101/zips/Class1/v1_0.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"v0_1\.zip is not a readable zip"):
        try_out(tiny_config(tmp_path, num_clients=2))


def test_a_step_before_the_run_tells_what_clients_may_report(data_dir):
    config = tiny_config(data_dir)
    report = report_of(config)
    assert report.names[:4] == ("loss_ctr", "loss_size", "iou", "iou_still") and report.least_loss == 0
    assert {"trivial_still", "active_share", "backbone_grad_norm", "grad_norm", "clipped_share"} < set(report.names)


class Peculiar(CtP):
    """A task of somebody's own."""

    least_loss = -2.0

    def forward(self, batch):
        return {**super().forward(batch), "lr": batch["boxes"].float().mean()}


class Broken(CtP):
    def forward(self, batch):
        return {"loss": batch["no such"]}


def test_a_mistake_in_a_task_of_ones_own_is_told_before_the_run(data_dir):
    def report(name: str):
        config = tiny_config(data_dir, f"task.module._target_={__name__}.{name}")
        return report_of(config)

    with pytest.raises(ValueError, match="The task reports a metric 'lr', a name that is taken"):
        report("Peculiar")
    with pytest.raises(ValueError, match="Broken fails in a step on Class0/v0_0 and Class0/v0_1: KeyError: 'no such'"):
        report("Broken")


@pytest.mark.parametrize("name", ["model", "strategy", "strategy.rule", "task.module", "task.sample"])
def test_a_file_that_names_no_class_is_told(name, data_dir):
    config, (outer, _, inner) = tiny_config(data_dir), name.partition(".")
    parts, missing = (config[outer], inner) if inner else (config, outer)
    without = {key: value for key, value in parts[missing].items() if key != "_target_"}
    for wrong in (without, None, "foo"):
        parts[missing] = wrong
        with pytest.raises(
            ValueError, match=rf"^{name} needs a _target_, the class to build: name one in .* conf/{outer}\."
        ):
            settle(config)


class Sized:
    """A Sample whose tensors have another shape for each video, or a name that is taken."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    def __call__(self, path, rng):
        return {self.name: torch.zeros(int(path.stem[-1]) + 1)}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("frames", r"CtP fails in a step on Class0/v0_0 and Class0/v0_1: .*equal size"),
        ("label", "Sized returns 'label', which every sample gets anyway"),
    ],
)
def test_a_sample_that_cannot_be_stacked_is_told_before_the_run(name, error, data_dir):
    config = tiny_config(data_dir)
    config["task"]["sample"] = {"_target_": f"{__name__}.Sized", "name": name}
    with pytest.raises(ValueError, match=error):
        report_of(config)


def test_a_task_tells_its_least_loss(data_dir, monkeypatch):
    monkeypatch.setattr(CtP, "least_loss", -2.0, raising=False)
    config = tiny_config(data_dir)
    assert report_of(config).least_loss == -2.0


def test_precision_is_settled_before_the_run(data_dir, monkeypatch):
    """What the clients are sent is the precision that was checked, and no "auto" that each would settle for itself."""
    config = tiny_config(data_dir, "training.precision=auto")
    trial, training = try_out(config), config["training"]
    assert fit_precision(training, trial, device="cpu") in ("bf16-mixed", "32-true")
    asked = []
    monkeypatch.setattr(preflight, "checked_precision", lambda *a, **k: asked.append(k) or "32-true")
    assert fit_precision(training, trial, device="cpu") == "32-true"
    unknown = {**training["optimizer"], "param_groups": {"haed.*": {"lr": 1.0}}}
    with pytest.raises(ValueError, match=r"no parameter is left for 'haed\.\*'"):
        fit_precision({**training, "optimizer": unknown}, trial, device="cpu")
    assert asked[0]["device"] == "cpu" and len(asked[0]["dataset"]) == 2


def test_a_warm_up_that_no_round_completes_is_told(data_dir, lines):
    try_out(tiny_config(data_dir, "training.warmup_steps=9"))
    assert "training.warmup_steps=9: a client makes 1 steps in a round" in lines.text
    lines.clear()
    try_out(tiny_config(data_dir, "training.warmup_steps=9", "training.keep_optimizer=true"))
    assert "training.warmup_steps" not in lines.text


def test_a_fraction_that_the_least_number_overrules_is_told(lines):
    preflight.tell_sampled(5, {"fraction_fit": 0.4, "min_fit_clients": 5})
    assert "strategy.min_fit_clients=5 overrules it: 5 train" in lines.text
    lines.clear()
    preflight.tell_sampled(5, {"fraction_fit": 0.4, "min_fit_clients": 2})
    assert not lines.text
