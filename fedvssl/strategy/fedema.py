"""FedEMA (Zhuang et al., arXiv 2204.04385): a client mixes its own last weights into those that arrive.

    theta <- mu theta_k + (1 - mu) theta,   mu = min(1, lambda d)       (equations 2 and 3)

d is the divergence of the client's last training, lambda its scaler. The server averages by number of videos (FedAvg).
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.bounds import is_parameter
from fedvssl.strategy.divergence import check_layers, divergence
from fedvssl.strategy.patterns import check_patterns, fits
from fedvssl.strategy.rule import FACT, Replace, When

DIVERGENCE, SCALER, OWN_SHARE = FACT + "divergence", FACT + "scaler", FACT + "own_share"
LEAST_MOVED = 1e-30  # divergence by which can be divided


class FedEMA:
    """Client half of FedEMA.

    It reports the divergence, the scaler, and as "own_share" the mu of the next contact.

    Args:
        scaler: lambda for all clients; None gives each its own, tau / d, after its first training that moved anything.
        tau: mu at a client's second contact, in [0, 1], if `scaler` is None.
        mix: patterns of the arrays that are mixed; the others are those that arrive.
        selective: True begins anew, as at a first contact, if the client did not train in the last round. An optimizer
            that is kept goes on.
        personal: patterns of the predictor's arrays, which come with the client's own statistics where mu > 0.5 and
            they are mixed. The statistics of all other layers are those that arrive.
        layers: patterns of the convolutions whose change is the divergence.

    Raises:
        ValueError: if a setting is out of range.
    """

    reports = ("divergence", "scaler", "own_share")

    def __init__(
        self,
        *,
        scaler: float | None,
        tau: float,
        mix: Sequence[str],
        selective: bool,
        personal: Sequence[str],
        layers: Sequence[str],
    ) -> None:
        if isinstance(scaler, bool) or not (
            scaler is None or (isinstance(scaler, int | float) and 0 <= scaler < np.inf)
        ):
            raise ValueError(f"strategy.rule.scaler={scaler} must be a number, at least 0, or null.")
        if isinstance(tau, bool) or not (isinstance(tau, int | float) and 0 <= tau <= 1):
            raise ValueError(f"strategy.rule.tau={tau} must be a number in [0, 1].")
        if not isinstance(selective, bool):
            raise ValueError(f"strategy.rule.selective={selective} must be true or false.")
        self.scaler, self.tau, self.selective = scaler, tau, selective
        self.mix = check_patterns(mix, where="strategy.rule.mix")
        self.personal = check_patterns(personal, where="strategy.rule.personal")
        self.layers = check_patterns(layers, where="strategy.rule.layers")

    def check(self, state: Arrays, shared: Collection[str]) -> None:
        check_layers(state, shared, layers=self.layers, personal=self.personal)
        for pattern in self.mix:
            if not any(fits(name, [pattern.removeprefix("!")]) for name in shared):
                raise ValueError(f"strategy.rule.mix: '{pattern}' fits no array that travels; ['*'] mixes all of them.")
        if not any(fits(name, self.mix) and is_parameter(name, state[name]) for name in shared):
            raise ValueError(f"strategy.rule.mix={self.mix} mixes no weight that travels: ['*'] mixes all of them.")

    def receive(self, arrived: Arrays, kept: Arrays, initial: Arrays, when: When) -> Arrays:
        """Mix the client's own parameters into those that arrive, see `Rule.receive`."""
        if self.selective and when.last_round != when.server_round - 1:
            kept, when = {}, When(when.server_round, last_round=0)  # as at a first contact
        state, mu = Replace().receive(arrived, kept, initial, when), float(kept.get(OWN_SHARE, 0.0))
        for name, array in ((name, array) for name, array in arrived.items() if fits(name, self.mix)):
            if is_parameter(name, array):
                state[name] = mu * kept[name] + (1 - mu) * array if mu else array  # equation 2
            elif mu > 0.5 and fits(name, self.personal):
                state[name] = kept[name]
        return state

    def keep(self, kept: Arrays, start: Arrays, state: Arrays, shared: Collection[str]) -> Arrays:
        moved = divergence(start, state, self.layers)
        scaler = kept.get(SCALER, self.scaler)
        if scaler is None and moved:
            scaler = self.tau / moved
        facts = {DIVERGENCE: moved, OWN_SHARE: min(1.0, float((scaler or 0.0) * moved))}
        facts |= {} if scaler is None else {SCALER: scaler}
        return {**state, **{name: np.array(float(fact)) for name, fact in facts.items()}}

    def warning(self, reports: Sequence[Mapping[str, float]]) -> str:
        """Tell of a round after which no client takes any of the parameters that arrive, see `Rule`."""
        if any(report.get("own_share", 0.0) < 1 for report in reports):
            return ""
        moved = max(float(np.mean([report.get("divergence", 0.0) for report in reports])), LEAST_MOVED)
        return (
            f"all {len(reports)} clients report own_share 1, so each goes on with its own weights and takes nothing of "
            f"those that arrive, wherever strategy.rule.mix={self.mix} fits: set strategy.rule.scaler below "
            f"{1 / moved:.3g}, the inverse of their mean divergence."
        )
