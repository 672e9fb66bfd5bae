"""The published partitions of pictures, index by index, from numpy's legacy generator (fixtures: partitions).

They were computed with EasyFL (iid, class, dirichlet) and MocoSFL (shards).
"""

import numpy as np
import pytest

from fedvssl.data.partition import Partition
from fedvssl.data.partition_balanced import by_class, dirichlet_balanced, iid, shards
from tests.parity.reference import load_json, load_npz

ARRAYS, META = load_npz("partitions"), load_json("partitions_meta")
LABELS, ORDER = ARRAYS["labels"], ARRAYS["shards_sort_order"]


def reproduced(case: str) -> Partition:
    rng = np.random.RandomState(META[case]["numpy_seed"])
    num_clients = len(META[case]["sizes"])
    match case.split("_"):
        case ["iid", _]:
            return iid(LABELS, num_clients, rng=rng)
        case ["class", _, k]:
            return by_class(LABELS, num_clients, classes_per_client=int(k[1:]), rng=rng)
        case ["dirichlet", _, alpha]:
            return dirichlet_balanced(LABELS, num_clients, alpha=float(alpha[1:]), rng=rng)
        case ["shards", _, ratio]:
            # The reference sorts with numpy's unstable sort: its order is taken before ours, which then keeps it.
            k = round(float(ratio.removeprefix("ratio")) * 10)
            return [np.sort(ORDER[part]) for part in shards(LABELS[ORDER], num_clients, shards_per_client=k, rng=rng)]
    raise AssertionError(case)


@pytest.mark.parametrize("case", META)
def test_the_published_lists(case: str) -> None:
    parts = reproduced(case)
    assert [len(part) for part in parts] == META[case]["sizes"]
    assert [np.unique(LABELS[part]).tolist() for part in parts] == META[case]["classes"]
    for client, part in enumerate(parts):
        np.testing.assert_array_equal(part, ARRAYS[f"{case}/client{client}"])


def test_every_stored_list_is_compared() -> None:
    stored = {name.split("/")[0] for name in ARRAYS if "/" in name}
    assert stored == META.keys() and len(stored) == 8
