"""The recognizer against the executed reference: pooled features, logits, mean of logits over clips."""

import numpy as np
import torch

from fedvssl.models.r3d import R3D
from fedvssl.models.recognizer import Recognizer
from tests.parity.reference import hash_input, hash_weights, load_json, load_npz


def build() -> Recognizer:
    model = Recognizer(R3D(), num_classes=101)
    hash_weights(model)
    return model.eval()


def test_state_names_are_the_published_ones() -> None:
    info = load_json("r3d18_info")["tsn_model"]
    assert [[k, list(v.shape), str(v.dtype)[6:]] for k, v in build().state_dict().items()] == info["state_dict"]


def test_features_and_logits() -> None:
    stored = load_npz("tsn")
    model = build()
    clips = hash_input((1, 3, 3, 16, 112, 112), 9990)[0]
    with torch.no_grad():
        features, logits = model.features(clips), model(clips)
    np.testing.assert_allclose(
        features, stored["model_pooled_features"], atol=1e-4 * stored["model_pooled_features"].std()
    )
    np.testing.assert_allclose(
        logits, stored["model_logits_per_clip"][0], atol=1e-4 * stored["model_logits_per_clip"].std()
    )
    np.testing.assert_allclose(logits.mean(0).softmax(0), stored["model_scores"][0], rtol=1e-3)
