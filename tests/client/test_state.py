"""A client's own arrays: one file a round, the newest and the one it started from."""

import numpy as np

from fedvssl.client.order import Order, Site
from fedvssl.client.state import client_folder, kept_path, save_kept
from fedvssl.files.arrays import load_arrays


def test_two_heads_are_kept_the_new_one_and_the_one_it_started_from(tmp_path):
    def save(server_round: int, kept_round: int) -> list[str]:
        save_kept(tmp_path, {"head.w": np.array([server_round])}, Order({}, server_round, kept_round, lr_factor=0.1))
        return sorted(path.name.split("-")[2] for path in tmp_path.iterdir())

    assert save(3, 0) == ["3.npz"] and save(5, 3) == ["3.npz", "5.npz"]
    assert save(9, 3) == ["3.npz", "9.npz"], "the reply of round 5 was not accepted"
    assert save(5, 3) == ["3.npz", "5.npz", "9.npz"], "a client that was given up in round 5 cannot take the head of 9"


def test_each_client_has_a_folder_of_its_own(tmp_path):
    site = Site("media", "lists", str(tmp_path))
    folders = [client_folder(site, partition_id) for partition_id in range(3)]
    assert len(set(folders)) == 3 and all(folder.parent == tmp_path for folder in folders)
    save_kept(folders[1], {"head.w": np.arange(2)}, Order({}, 4, 0, lr_factor=0.1))
    assert load_arrays(kept_path(folders[1], 4))["head.w"].tolist() == [0, 1] and not folders[0].exists()
