"""The pretext tasks on videos against the executed toolkit: states, indices, losses; what is at fault there works."""

import itertools
import json
import re

import numpy as np
import pytest
import torch

from fedvssl.building import build_sample, build_task
from fedvssl.config import compose
from fedvssl.tasks.clips import classify
from fedvssl.tasks.memdpc import dense_nce
from fedvssl.tasks.rot3d import turned
from fedvssl.tasks.vcop import ORDERS, PAIRS, VCOPHead
from tests.parity.reference import load_json, load_npz

STORED, INFO = load_npz("pretext"), load_json("pretext_models_info")
# Names of the toolkit -> ours, and names of the same weights that it stores twice.
RENAMED = {
    "vcop": {r"vcop_head\.": "head."},
    "speed": {r"cls_head\.": "head."},
    "rot3d": {r"cls_head\.": "head."},
    "memdpc": {r"^(?=mb|proj_head|agg_|network_pred)": "head.", r"(ConvGRUCell_00|cell_list\.0)\.": ""},
    "moco_clips": {
        r"^fc\.0": "projector.hidden",
        r"^fc\.2": "projector.out",
        r"^key_fc\.0": "key_encoder.projector.hidden",
        r"^key_fc\.2": "key_encoder.projector.out",
        r"^queue$": "queue.keys",
        r"^queue_ptr$": "queue.place",
    },
}
STORED_AS = {"speed": "speednet", "moco_clips": "moco"}


def renamed(task: str, name: str) -> str:
    for pattern, ours in RENAMED[task].items():
        name = re.sub(pattern, ours, name)
    return name


@pytest.mark.parametrize("name", RENAMED)
def test_states_and_numbers_of_parameters(name: str) -> None:
    info = INFO[STORED_AS.get(name, name)]
    with torch.device("meta"):
        task = build_task(compose("base", [f"task={name}"]))
    sizes = {True: 0, False: 0}
    for weight in task.parameters():
        sizes[weight.requires_grad] += weight.numel()
    assert (sizes[True] + sizes[False], sizes[True]) == (info["n_params"], info["n_trainable"])
    state = task.state_dict()
    own = {key: tuple(array.shape) for key, array in state.items() if "backbone." not in key}
    theirs = {renamed(name, key): tuple(shape) for key, shape in info["non_backbone"]}
    if name == "moco_clips":  # keys in rows here; the number of rounds is no part of the toolkit
        theirs |= {"queue.keys": (65536, theirs["queue.keys"][0]), "queue.place": (), "key_encoder.rounds": ()}
    assert own == theirs
    doubled = len(info["non_backbone"]) - len(own)  # -1 for the number of rounds
    assert len(state) == info["n_state"] - doubled


@pytest.mark.parametrize("num_frames", [5, 16, 30, 48, 49])
def test_vcop_indices_of_short_videos(num_frames: int) -> None:
    """The toolkit draws the start of a video of 49 frames, too: there the three clips have no room between them."""
    sample = build_sample(compose("base", ["task=vcop"]))
    found = sample.indices(num_frames, np.random.default_rng(0))
    np.testing.assert_array_equal(found, STORED[f"vcop/indices_n{num_frames}"])


@pytest.mark.parametrize("num_frames", json.loads(str(STORED["vcop/random_stats_json"])))
def test_vcop_gaps_and_starts(num_frames: str) -> None:
    stored = json.loads(str(STORED["vcop/random_stats_json"]))[num_frames]
    sample, rng = build_sample(compose("base", ["task=vcop"])), np.random.default_rng(0)
    drawn = np.stack([sample.indices(int(num_frames), rng) for _ in range(4000)])
    starts = drawn[:, :, 0]
    assert set((np.diff(starts) - 16).ravel()) == set(stored["gaps"])
    assert (starts[:, 0].min(), starts[:, 0].max()) == (stored["start_min"], stored["start_max"])
    assert drawn.max() == stored["last_max"] and (np.diff(drawn) == 1).all()


def test_vcop_head_and_loss() -> None:
    assert list(itertools.chain(*PAIRS)) == STORED["vcop/pair_inds"].tolist()
    assert [list(order) for order in ORDERS] == STORED["vcop/permutations"].tolist()
    head = VCOPHead(12, hidden_channels=10, dropout=0.5).eval()
    weights = {name.removeprefix("vcop/weights/"): array for name, array in STORED.items() if "/weights/" in name}
    head.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    pooled = torch.from_numpy(STORED["vcop/feats"]).flatten(2).mean(2).unflatten(0, (-1, 3))
    logits = head(pooled)
    torch.testing.assert_close(logits, torch.from_numpy(STORED["vcop/logits_eval"]))
    scalars = classify(logits, torch.from_numpy(STORED["vcop/labels"])[:, 0])
    assert scalars["loss"].item() == pytest.approx(float(STORED["vcop/loss_cls"]), rel=1e-6)
    assert scalars["top1_acc"] == float(STORED["vcop/accuracy"])


@pytest.mark.parametrize("num_frames", json.loads(str(STORED["speednet/stats_json"])))
def test_speed_indices_and_frequencies(num_frames: str) -> None:
    stored, length = json.loads(str(STORED["speednet/stats_json"]))[num_frames], int(num_frames)
    sample, rng = build_sample(compose("base", ["task=speed"])), np.random.default_rng(0)
    for answer, (least, most) in stored["index_range_per_label"].items():
        drawn = np.stack([sample.indices(length, int(answer), rng) for _ in range(3000)])
        assert (drawn.min(), drawn.max()) == (least, most), answer
        example = np.array(stored["one_example"][answer])
        step = np.diff(example)[0 if int(answer) > 3 else -1]
        assert (drawn == example).all(axis=1).any() or length > 100, "an example that is never drawn"
        assert sample.speeds[int(answer)] == step or length < 8
    np.testing.assert_allclose(stored["label_freq"], 1 / 7, atol=0.02)  # 7,000 draws: what "chance" assumes


def test_rot3d_turns_a_picture_the_same_way_but_for_a_border_of_a_pixel() -> None:
    for size in ("sq", "even"):
        picture = torch.from_numpy(STORED[f"rot/{size}/in"])
        side = len(picture)
        for quarters in range(4):
            ours = turned(picture[None, None].float(), torch.tensor([quarters]))[0, 0].byte().numpy()
            theirs = STORED[f"rot/{size}/flag{quarters}"]
            down, right = {0: (0, 0), 1: (1, 0), 2: (1, 1), 3: (0, 1)}[quarters]
            np.testing.assert_array_equal(theirs[down:, right:], ours[: side - down, : side - right])
            assert np.array_equal(theirs, ours) == (quarters == 0)


def test_memdpc_loss_and_accuracy() -> None:
    """The toolkit's helper for the accuracy fails on the torch of today; its numbers were stored with a mended one."""
    predictions = torch.from_numpy(STORED["memdpc/pred_B_C_N_H_W"]).transpose(1, 2)
    targets = torch.from_numpy(STORED["memdpc/gt_C_B_N_HW"]).permute(1, 2, 0, 3).unflatten(3, (2, 2))
    scalars = dense_nce(predictions, targets)
    assert scalars["loss"].item() == pytest.approx(float(STORED["memdpc/loss_mean"]), rel=1e-6)
    assert scalars["top1_acc"].item() == pytest.approx(float(STORED["memdpc/top1"]))
    hits = (torch.ones(24, 5).topk(5)[1].t() == 0)[:5]
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        hits.view(-1)  # what the helper does with its hits


@pytest.mark.parametrize("name", ["vcop", "speed", "rot3d", "memdpc"])
def test_losses_of_the_initial_weights(name: str) -> None:
    """They are near that of chance, as the toolkit's are. A narrow net makes those of VCOP's larger head vary more."""
    config = compose("base", [f"task={name}", "model.width=8"])
    torch.manual_seed(0)
    task = build_task(config).train()
    generator = torch.Generator().manual_seed(1)
    if name == "memdpc":
        batch = {"blocks": torch.randn(8, 3, 5, 112, 112, generator=generator)}
    else:
        clips = torch.randn(6, 3, 8, 56, 56, generator=generator)
        answer = {"vcop": "order", "speed": "speed", "rot3d": "turn"}[name]
        batch = {"clips": clips, answer: torch.arange(2 if name == "vcop" else 6) % 4}
    with torch.no_grad():
        loss = task({**batch, "index": torch.arange(1)})["loss"].item()
        chance = task.trivial({**batch, "index": torch.arange(1)})["chance"].item()
    losses = INFO[STORED_AS.get(name, name)]["loss_at_init"]
    assert loss == pytest.approx(chance, abs=0.4 if name == "vcop" else 0.15)
    assert next(value for key, value in losses.items() if "loss" in key) == pytest.approx(chance, abs=0.05)
