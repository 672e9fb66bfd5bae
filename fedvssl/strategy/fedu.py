"""FedU (Zhuang et al., arXiv 2108.06492): a client whose backbone moved far goes on with its own predictor.

The server averages backbone and predictor by number of videos (FedAvg). The paper's predictor is that of BYOL; here it
is whatever the task calls `personal`, such as the head of Catch-the-Patch.
"""

from collections.abc import Collection, Sequence

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.divergence import check_layers, divergence
from fedvssl.strategy.patterns import check_patterns, fits
from fedvssl.strategy.rule import FACT, Replace, When

DIVERGENCE, OWN_SHARE = FACT + "divergence", FACT + "own_share"


class FedU:
    """Client half of FedU: divergence-aware update of the predictor.

    It reports the divergence, and as "own_share" 1 if the client's own predictor is used at the next contact, else 0.

    Args:
        threshold: the global predictor is used if the divergence of the client's last training lies below it;
            infinity is FedAvg.
        personal: patterns of the names of the predictor's arrays.
        layers: patterns of the convolutions whose change is the divergence.

    Raises:
        ValueError: if a setting is out of range.
    """

    reports = ("divergence", "own_share")

    def __init__(self, *, threshold: float, personal: Sequence[str], layers: Sequence[str]) -> None:
        if isinstance(threshold, bool) or not (isinstance(threshold, int | float) and threshold >= 0):
            raise ValueError(f"strategy.rule.threshold={threshold} must be a number, at least 0; inf is FedAvg.")
        self.threshold = threshold
        self.personal = check_patterns(personal, where="strategy.rule.personal")
        self.layers = check_patterns(layers, where="strategy.rule.layers")

    def check(self, state: Arrays, shared: Collection[str]) -> None:
        check_layers(state, shared, layers=self.layers, personal=self.personal)

    def receive(self, arrived: Arrays, kept: Arrays, initial: Arrays, when: When) -> Arrays:
        """Take what arrives, but for a predictor of the client's own where it stays, see `Rule.receive`."""
        state = Replace().receive(arrived, kept, initial, when)
        if when.last_round and kept[OWN_SHARE]:
            state |= {name: kept[name] for name in arrived if fits(name, self.personal)}
        return state

    def keep(self, kept: Arrays, start: Arrays, state: Arrays, shared: Collection[str]) -> Arrays:
        own = {name: array for name, array in state.items() if name not in shared or fits(name, self.personal)}
        moved = divergence(start, state, self.layers)
        return own | {DIVERGENCE: np.array(moved), OWN_SHARE: np.array(float(moved >= self.threshold))}
