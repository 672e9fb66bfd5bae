"""Frame samplers and key frames against the executed reference: exact where it is deterministic, else statistics."""

import numpy as np
import pytest

from fedvssl.data.keyframes import EASINGS, interpolate, sample_easings, sample_key_frames
from fedvssl.data.sampling import random_clip, uniform_clips
from tests.parity.reference import load_json, load_npz

UNIFORM = load_json("uniform_sampler")
RANDOM = load_json("random_sampler")


@pytest.mark.parametrize("num_frames", UNIFORM["indices"])
def test_uniform_clips_of_the_test_protocol(num_frames: str) -> None:
    ours = uniform_clips(int(num_frames), num_clips=10, clip_len=16, stride=2)
    np.testing.assert_array_equal(ours, UNIFORM["indices"][num_frames])


@pytest.mark.parametrize("name", UNIFORM["other"])
def test_uniform_clips_of_other_settings(name: str) -> None:
    case = UNIFORM["other"][name]
    config = case["cfg"]
    for num_frames, indices in case["indices"].items():
        ours = uniform_clips(
            int(num_frames), num_clips=config["num_clips"], clip_len=config["clip_len"], stride=config["strides"]
        )
        np.testing.assert_array_equal(ours, indices)


@pytest.mark.parametrize(
    ("use", "num_frames"), [(use, length) for use in ("ctp", "finetune") for length in RANDOM[use]["stats"]]
)
def test_random_clip_statistics(use: str, num_frames: str) -> None:
    config, stored, length = RANDOM[use]["cfg"], RANDOM[use]["stats"][num_frames], int(num_frames)
    rng = np.random.default_rng(0)
    strides = np.atleast_1d(config["strides"]).tolist()
    draws = np.stack(
        [
            random_clip(length, rng, clip_len=config["clip_len"], strides=strides, jitter=config["temporal_jitter"])
            for _ in range(5000)
        ]
    )
    error = 5 / np.sqrt(5000)  # five standard errors of a mean
    std = np.array(stored["index_std"])
    np.testing.assert_array_less(np.abs(draws.mean(0) - stored["index_mean"]), error * std + 1e-9)
    np.testing.assert_allclose(draws.std(0), std, rtol=0.06, atol=1e-9)
    assert (draws.min(0) >= stored["index_min"]).all() and (draws.max(0) <= stored["index_max"]).all()
    steps = np.diff(draws, axis=1)
    assert (steps >= 0).all()
    for step, share in stored["diff_hist"].items():
        assert abs((steps == int(step)).mean() - share) < 0.02
    assert abs((draws == length - 1).mean() - stored["frac_clamped_last_frame"]) < 0.02
    assert abs((draws[:, 0] == 0).mean() - stored["frac_all_zero_start"]) < 0.03


@pytest.mark.parametrize("case", ["k0", "k1", "k2", "k3"])
@pytest.mark.parametrize("easing", EASINGS)
def test_interpolation(case: str, easing: str) -> None:
    stored = load_npz("keyframe_interp")
    key_frames, values = stored[f"{case}/inds"], stored[f"{case}/values"]
    ours = interpolate(values, key_frames, [easing] * (len(key_frames) - 1))
    np.testing.assert_allclose(ours, stored[f"{case}/{easing}"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", load_json("patchmask_stats")["sample_key_frames"])
def test_key_frame_statistics(name: str) -> None:
    stored = load_json("patchmask_stats")["sample_key_frames"][name]
    num_frames, *probs = (float(part) for part in name[1:].replace("_p", "_").split("_"))
    rng = np.random.default_rng(1)
    draws = [sample_key_frames(int(num_frames), probs, rng) for _ in range(20000)]
    counts = np.bincount([len(draw) for draw in draws], minlength=5) / len(draws)
    for count, share in stored["count_freq"].items():
        assert abs(counts[int(count)] - share) < 0.02
    inner = np.bincount(np.concatenate([draw[1:-1] for draw in draws]), minlength=int(num_frames)) / len(draws)
    np.testing.assert_allclose(inner, stored["inner_index_freq"], atol=0.02)


def test_easing_probabilities() -> None:
    rng = np.random.default_rng(2)
    names = sample_easings(np.arange(20001), rng)
    shares = [names.count(name) / 20000 for name in ("uniform", "accelerate", "decelerate")]
    np.testing.assert_allclose(shares, load_json("patchmask_stats")["interpolation_mode_probs_random"], atol=0.02)
