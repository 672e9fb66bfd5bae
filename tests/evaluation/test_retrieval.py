import numpy as np
import pytest
import torch

from fedvssl.evaluation.features import neighbours
from fedvssl.evaluation.retrieval import Retrieval
from tests.evaluation.features import clusters


def test_neighbours_agree_with_a_slow_search_and_takes_any_number_of_queries(monkeypatch):
    rng = np.random.default_rng(0)
    gallery, queries = rng.normal(size=(13, 5)), rng.normal(size=(7, 5))
    cosines = [[g @ q / np.linalg.norm(g) / np.linalg.norm(q) for g in gallery] for q in queries]
    expected = np.argsort(cosines, axis=1)[:, ::-1][:, :4]
    monkeypatch.setattr("fedvssl.evaluation.features.QUERIES_AT_ONCE", 3)
    found, nearest = neighbours(torch.tensor(gallery), torch.tensor(queries), k=4)
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_allclose(found, np.take_along_axis(np.array(cosines), expected, axis=1))


def test_a_small_gallery_is_searched_as_a_whole():
    train, test = clusters(6, num_classes=3, noise=2, seed=1), clusters(9, num_classes=3, noise=2, seed=2)
    metrics = Retrieval(ks=[1, 50])(train, test).metrics
    assert metrics["R@50"] == 1.0 and metrics["R@1"] < 1.0


def test_well_separated_classes_are_found_and_noise_is_not():
    good = [clusters(n, num_classes=4, noise=0.01, seed=n) for n in (40, 20)]
    bad = [clusters(n, num_classes=4, noise=1000, seed=n) for n in (400, 200)]
    assert Retrieval(ks=[1])(*good).metrics["R@1"] == 1.0
    assert Retrieval(ks=[1])(*bad).metrics["R@1"] == pytest.approx(0.25, abs=0.1)


def test_the_picture_frames_right_and_wrong_answers(tmp_path):
    train, test = clusters(4, num_classes=2, noise=0.01, seed=1), clusters(30, num_classes=2, noise=0.01, seed=2)
    asked = []

    def frame(name: str) -> np.ndarray:
        asked.append(name)
        return np.zeros((6, 8, 3), np.uint8)

    protocol = Retrieval(ks=[1])
    protocol.draw(tmp_path / "x.png", {"checkpoint": Retrieval(ks=[9])(train, test)}, train, test, frame)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    queries = [name for name in asked if name in test.names]
    assert len(queries) == 8 and queries[0] == test.names[0] and queries[-1] == test.names[-1]
    assert len(asked) == 8 * 5  # four of the gallery for each


@pytest.mark.parametrize("ks", [[], [0], [1.5], [True]])
def test_what_is_no_number_of_neighbours_is_refused(ks):
    with pytest.raises(ValueError, match=r"protocol\.ks="):
        Retrieval(ks=ks)
