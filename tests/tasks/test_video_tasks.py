"""The pretext tasks on whole clips: what a worker ships, what is asked, videos that are too short, signs of life."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedvssl.building import build_sample, build_task
from fedvssl.config import compose
from fedvssl.data.annotations import Annotation, write_annotations
from fedvssl.data.dataset import SampleDataset
from fedvssl.files.arrays import load_arrays
from fedvssl.files.run_log import read_records
from fedvssl.models.r3d import R3D
from fedvssl.preflight import check_recipe
from fedvssl.tasks.clips import ClipDraw
from fedvssl.tasks.memdpc import ConvGRU, MemDPC, MemDPCHead
from fedvssl.tasks.moco import MoCo
from fedvssl.tasks.vcop import ORDERS
from fedvssl.training.loop import build_fabric, set_up, train_epoch
from fedvssl.training.precision import LEAST_COSINE, agreement
from tests.federation import train
from tests.video_tasks import SMALL, Falling, draw_batch, words_of
from tests.videos import ArrayVideo, moving_square, write_frames

ANSWERS = {"vcop": ("order", 6), "speed": ("speed", 7), "rot3d": ("turn", 4)}
CUT = ("model.width=4",)


def built(name: str, *words: str) -> tuple[Any, Any, dict[str, Any]]:
    """Sample, task and configuration at the size of a test."""
    cfg = compose("base", words_of(name, *CUT, *words))
    torch.manual_seed(0)
    return build_sample(cfg), build_task(cfg), cfg


def counting(num_frames: int) -> ArrayVideo:
    """Every frame is as grey as its number."""
    frames = np.arange(num_frames, dtype=np.uint8)[:, None, None, None]
    return ArrayVideo(np.broadcast_to(frames, (num_frames, 36, 48, 3)))


@pytest.mark.parametrize("name", SMALL)
def test_a_sample_depends_on_its_generator_only_and_ships_no_doubles(name: str) -> None:
    sample, _, _ = built(name)
    first, again, other = (draw_batch(sample, 4, step=step, video=lambda _: Falling(3)) for step in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["frames"], other["frames"])
    assert first["frames"].dtype == torch.uint8 and all(value.dtype != torch.float64 for value in first.values())


@pytest.mark.parametrize(("name", "answer"), ANSWERS.items())
def test_all_answers_are_as_frequent(name: str, answer: tuple[str, int]) -> None:
    """So the logarithm of their number is the loss of answering by frequency."""
    sample, task, _ = built(name)
    key, number = answer
    video = counting(60)
    drawn = [int(sample.read(video, np.random.default_rng(seed))[key]) for seed in range(600)]
    counts = np.bincount(drawn, minlength=number)
    assert len(counts) == number and abs(counts - 600 / number).max() < 5 * math.sqrt(600 / number)
    batch = {"clips": torch.zeros(1)}
    assert task.trivial(batch)["chance"].item() == pytest.approx(math.log(number))


@pytest.mark.parametrize("name", SMALL)
def test_a_step_logs_the_trivial_loss_and_signs_of_life(name: str) -> None:
    """A batch holds all that a task looks for: the toolkit's MoCo asks for keys that its data set does not give."""
    sample, task, _ = built(name)
    fabric = build_fabric(device="cpu", precision="32-true")
    wrapped, optimizer = set_up(fabric, task, torch.optim.SGD(task.parameters(), lr=0.01))
    weight = next(task.backbone.parameters())
    before = weight.detach().clone()
    metrics = train_epoch(fabric, wrapped, optimizer, [draw_batch(sample, 3)], max_norm=40).metrics  # pyright: ignore[reportArgumentType]
    assert {"loss", "top1_acc", "trivial_chance", "embedding_std"} <= set(metrics)
    assert 0 <= metrics["top1_acc"] <= 1 and 0 < metrics["loss"] < 3 * metrics["trivial_chance"]
    assert metrics["embedding_std"] > 0 and not torch.equal(before, weight)
    assert ("active_share" if name in ("vcop", "moco_clips") else "backbone_grad_norm") in metrics


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_agrees_with_float32(name: str) -> None:
    sample, task, _ = built(name)
    weight, cosine = agreement(task, draw_batch(sample, 2), device="cpu")
    assert cosine > LEAST_COSINE, weight


def test_clips_come_in_the_order_that_is_asked_for() -> None:
    sample, _, _ = built("vcop")
    for seed in range(12):
        drawn = sample.read(counting(60), np.random.default_rng(seed))
        first = drawn["frames"][:, 0, 0, 0, 0].long()
        order = ORDERS[int(drawn["order"])]
        # Clip i of the drawn ones is clip order[i] of the video; JPEG and resizing leave the grey of a frame.
        assert first.argsort().tolist() == np.argsort(order).tolist()
        assert drawn["frames"].shape == (3, 4, 32, 32, 3)


def test_the_three_clips_share_a_cut() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (36, 48, 3), dtype=np.uint8)
    sample, _, _ = built("vcop")
    frames = sample.read(ArrayVideo(np.tile(picture, (40, 1, 1, 1))), np.random.default_rng(0))["frames"]
    assert (frames == frames[0, 0]).all() and frames.float().std() > 10


def test_a_clip_is_played_at_the_speed_that_is_asked_for() -> None:
    sample, _, _ = built("speed")
    seen = set()
    for seed in range(40):
        drawn = sample.read(counting(100), np.random.default_rng(seed))
        greys = drawn["frames"][:, 0, 0, 0].float()
        steps = greys.diff().unique().tolist()
        assert steps == [sample.speeds[int(drawn["speed"])]]
        seen.add(steps[0])
    assert seen == {-4, -2, -1, 0, 1, 2, 4}


def test_frames_are_turned_after_they_are_mirrored() -> None:
    sample, task, _ = built("rot3d", "task.sample.draw.flip_prob=1")
    batch = draw_batch(sample, 6)
    plain = {**batch, "recolour": torch.zeros(6, dtype=torch.bool), "brightness": torch.zeros(6)}
    plain["contrast"] = torch.ones(6)
    clips = task.augment(plain)["clips"]
    upright = task.augment({**plain, "turn": torch.zeros(6, dtype=torch.int64)})["clips"]
    for clip, own, turn in zip(clips, upright, batch["turn"].tolist(), strict=True):
        torch.testing.assert_close(clip, own.rot90(turn, (2, 3)))
    mirrored = task.augment({**plain, "turn": torch.zeros(6, dtype=torch.int64), "flip": ~plain["flip"]})["clips"]
    torch.testing.assert_close(mirrored.flip(-1), upright)


def test_two_clips_of_a_video_are_drawn_apart() -> None:
    sample, task, _ = built("moco_clips")
    batch = draw_batch(sample, 4)
    assert batch["frames"].shape == (4, 2, 8, 32, 32, 3)
    assert not torch.equal(batch["brightness"][:, 0], batch["brightness"][:, 1])
    views = task.augment(batch)
    assert views["view1"].shape == (4, 3, 8, 32, 32) and not torch.equal(views["view1"], views["view2"])


def test_moco_without_batch_norm_in_its_head_is_a_task_with_another_sample() -> None:
    _, task, _ = built("moco_clips")
    assert type(task) is MoCo and [name for name, _ in task.projector.named_buffers()] == []


def test_a_gru_of_maps_is_its_equations() -> None:
    torch.manual_seed(0)
    gru = ConvGRU(3, dropout=0.5).eval()
    x, state = torch.randn(1, 3, 1, 1), torch.randn(1, 3, 1, 1)

    def gate(layer: nn.Conv2d, *parts: torch.Tensor) -> torch.Tensor:
        return layer.weight.flatten(1) @ torch.cat([part.flatten() for part in parts]) + layer.bias

    update, reset = (torch.sigmoid(gate(layer, x, state)) for layer in (gru.update_gate, gru.reset_gate))
    new = torch.tanh(gate(gru.out_gate, x, reset.view_as(state) * state))
    expected = (1 - update) * state.flatten() + update * new
    torch.testing.assert_close(gru(x, state).flatten(), expected)


def test_memdpc_predicts_from_the_blocks_before_only() -> None:
    torch.manual_seed(0)
    head = MemDPCHead(6, out_channels=4, memory_size=5, num_predicted=2, dropout=0).eval()
    features = torch.randn(2, 5, 6, 2, 3, 3)
    other = features.clone()
    other[:, 3:] += 1
    (forwards, targets), (backwards, _) = head(features)
    (same, moved), (changed, _) = head(other)
    assert forwards.shape == targets.shape == (2, 2, 4, 3, 3)
    assert torch.equal(forwards, same) and not torch.equal(targets, moved) and not torch.equal(backwards, changed)
    low, high = head.mb.min(0).values[:, None, None], head.mb.max(0).values[:, None, None]
    assert ((forwards >= low) & (forwards <= high)).all(), "a prediction is no mixture of the memory"
    (first, _), _ = head(features.flip(1))
    assert not torch.equal(first, backwards), "each direction has a GRU of its own"


def test_memdpc_predicts_by_the_published_order_of_operations() -> None:
    """ReLU before a GRU and none for targets, the mean over time after the projection, a prediction fed back."""
    torch.manual_seed(0)
    head = MemDPCHead(6, out_channels=4, memory_size=5, num_predicted=2, dropout=0.1).eval()
    features = torch.randn(2, 5, 6, 2, 3, 3)
    head.mb.data -= 0.5  # so that predictions have both signs
    first, _, last = head.network_pred
    blocks = [head.proj_head(features[:, number]).mean(2) for number in range(5)]
    for order, gru, found in zip((blocks, blocks[::-1]), (head.agg_f, head.agg_b), head(features), strict=True):
        state, expected = torch.zeros(2, 4, 3, 3), []
        for block in order[:3]:
            state = gru(block.clamp(min=0), state)
        for _ in range(2):
            shares = torch.softmax(last(first(state).clamp(min=0)), dim=1)
            expected.append((shares[:, :, None] * head.mb[None, :, :, None, None]).sum(1))
            state = gru(expected[-1].clamp(min=0), state)
        assert (expected[0] < 0).any() and (expected[0] > 0).any()
        torch.testing.assert_close(found[0], torch.stack(expected, dim=1))
        torch.testing.assert_close(found[1], torch.stack(order[3:], dim=1))


def test_blocks_follow_each_other_in_time() -> None:
    sample, task, _ = built("memdpc")
    drawn = sample.read(counting(17), np.random.default_rng(0))
    greys = drawn["frames"][:, 0, 0, 0].float()
    assert greys.tolist() == list(range(0, 16, 2))
    batch = {key: value[None] for key, value in drawn.items()} | {"index": torch.arange(1)}
    batch |= {"brightness": torch.zeros(1), "contrast": torch.ones(1), "recolour": torch.zeros(1, dtype=torch.bool)}
    blocks = task.augment(batch)["blocks"]
    assert blocks.shape == (4, 3, 2, 32, 32)
    levels = blocks.mean((1, 3, 4)).flatten()
    assert (levels.diff() > 0).all(), "the blocks are mixed up"


def write_videos(folder: Path, lengths: list[int]) -> list[Annotation]:
    for number, length in enumerate(lengths):
        frames = moving_square(num_frames=length, height=36, width=48, seed=number)
        write_frames(folder / f"C/v{number}.zip", frames)
    return [Annotation(f"C/v{number}", 0) for number in range(len(lengths))]


def test_videos_that_are_too_short_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Published: videos of at most 8 * 5 * 3 = 120 frames."""
    sample = build_sample(compose("base", ["task=memdpc"]))
    assert sample.span == 120
    annotations = write_videos(tmp_path, [16, 17, 20, 3])
    small, _, _ = built("memdpc")
    with caplog.at_level(logging.INFO, "fedvssl.tasks.memdpc"):
        dataset = SampleDataset(tmp_path, annotations, small, seed_key=(7,))
    assert [own.name for own in dataset.annotations] == ["C/v1", "C/v2"]
    assert caplog.messages == ["2 of 4 videos have at most 16 frames, too few for MemDPC: they are left out."]
    SampleDataset(tmp_path, annotations, small, seed_key=(8,))
    assert len(caplog.messages) == 1, "it is told in every epoch"
    assert len(SampleDataset(tmp_path, [], small)) == 0
    with pytest.raises(ValueError, match="1 of 1 videos have at most 16 frames, too few for MemDPC: give longer ones"):
        SampleDataset(tmp_path, annotations[:1], small)
    with pytest.raises(ValueError, match="16 frames is too short for MemDPC, which needs 17"):
        small.indices(16, np.random.default_rng(0))
    clips, _, _ = built("vcop")
    assert len(SampleDataset(tmp_path, annotations, clips)) == 4, "other tasks repeat the last frame, as published"


@pytest.mark.parametrize("name", SMALL)
def test_a_federation_trains_and_shares_the_backbone_only(name: str, tmp_path: Path) -> None:
    """Two clients, each with a video of 12 frames, too short for MemDPC, which says how many it has taken."""
    annotations = write_videos(tmp_path / "zips", [30, 12, 24, 30, 12, 24])
    for client in range(2):
        write_annotations(tmp_path / f"lists/client_dist{client + 1}.json", annotations[3 * client : 3 * client + 3])
    words = words_of(name, *CUT, "pool_size=2", "rounds=1", "strategy.min_fit_clients=2", "training.batch_size=2")
    words += [f"data.media_dir={tmp_path / 'zips'}", f"partition_dir={tmp_path / 'lists'}"]
    cfg = compose("base", [*words, "client_resources={num_gpus: 0, num_cpus: 1}"])
    train(cfg, tmp_path / "run")
    record = next(r for r in read_records(tmp_path / "run/metrics.jsonl") if "partition_id" not in r)
    assert record["num_clients"] == 2 and math.isfinite(record["loss"]) and record["trivial_chance"] > 0
    taken = 2 if name in ("memdpc", "moco_clips") else 3  # MoCo has nothing to compare a last sample alone with
    clients = [r for r in read_records(tmp_path / "run/metrics.jsonl") if "partition_id" in r]
    assert [r["num_clips"] for r in clients] == [taken, taken]
    assert f"{taken} of 3 samples" in (tmp_path / "run/clients/client_1/train.log").read_text()
    arrays = load_arrays(tmp_path / "run/round-1-weights.npz")
    assert arrays and all(key.startswith("backbone.") for key in arrays), "a head, key encoder or queue has travelled"


@pytest.mark.parametrize("name", [*SMALL, "ctp"])
def test_published_settings_and_those_of_kinetics(name: str) -> None:
    training = compose("base", [f"task={name}"])["training"]
    assert training["lr"] == (0.001 if name == "vcop" else 0.01)
    assert (training["momentum"], training["weight_decay"], training["max_norm"]) == (0.9, 1e-4, 40)
    cosine = name == "moco_clips"
    assert training["schedule"]["_target_"].endswith("Cosine" if cosine else "Steps")
    cfg = compose("base", [f"task={name}", "experiment=kinetics400"])
    check_recipe(cfg["training"])
    assert cfg["rounds"] == 540 and cfg["training"]["lr"] == training["lr"]
    assert cfg["training"]["schedule"]["_target_"].endswith("Cosine" if cosine else "Steps")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"sizes": [[43, 32]], "crop_size": 40}, "crop_size=40 does not fit into frames of 32 pixels"),
        ({"sizes": [[43, 32]], "short_sides": [32], "crop_size": 32}, "sizes or short_sides, one of both"),
        ({"crop_size": 32}, "sizes or short_sides, one of both"),
    ],
)
def test_a_cut_that_cannot_be_made_is_refused(settings: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ClipDraw(**settings)


@pytest.mark.parametrize("number", [0, 4])
def test_memdpc_predicts_some_of_its_blocks_but_not_all(number: int) -> None:
    sizes = {"num_blocks": 4, "out_channels": 4, "memory_size": 4, "dropout": 0}
    with pytest.raises(ValueError, match=f"num_predicted={number} must be from 1 to 3"):
        MemDPC(R3D(10, width=4), num_predicted=number, **sizes)
