"""FedBYOL and its siblings (Zhuang et al., arXiv 2108.06492 and 2204.04385): who sends and who takes which encoder.

A task such as BYOL has two encoders: the online one, and a follower, BYOL's target network, that moves slowly after
it. Two choices are independent: the encoder that a client sends to be averaged, and the one that the average replaces.
Both are the online encoder in FedBYOL; the papers compare it with the others. The server averages by number of videos
(FedAvg).

| replaces | own_encoder | own_follower |        | sends | sends |
|---|---|---|---|---|---|
| online (FedBYOL) | 0 | 1 | | online | encoder |
| follower | 1 | 0 | | target network | follower |
| both | 0 | 0 | | | |
| none: standalone, with own_predictor 1 | 1 | 1 | | | |
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fedvssl.files.arrays import Arrays
from fedvssl.strategy.bounds import is_parameter
from fedvssl.strategy.patterns import check_patterns, fits
from fedvssl.strategy.rule import Replace, When

ENCODER, FOLLOWER = "encoder", "follower"


@dataclass(frozen=True, kw_only=True)
class FedBYOL:
    """Client half of FedBYOL and its siblings.

    A share in [0, 1] tells how much of the client's own arrays is left of what a contact after the first one gives: 0
    takes what arrives, 1 keeps the own ones, and between them the parameters are mixed, while statistics and counters
    of BatchNorm are the own ones (constant EMA).

    Args:
        own_encoder: share in the online encoder.
        own_predictor: share in the predictor.
        own_follower: share in the follower, which is offered the encoder that arrives.
        sends: "encoder", or "follower" to send its arrays in the place of the encoder's.
        follower: how the names of the follower's arrays begin; the rest is the name of the array that it follows.
        personal: patterns of the predictor's arrays.

    Raises:
        ValueError: if a setting is out of range.
    """

    own_encoder: float
    own_predictor: float
    own_follower: float
    sends: str
    follower: str
    personal: Sequence[str]

    reports = ()

    def __post_init__(self) -> None:
        for name in ("own_encoder", "own_predictor", "own_follower"):
            share = getattr(self, name)
            if isinstance(share, bool) or not (isinstance(share, int | float) and 0 <= share <= 1):
                raise ValueError(f"strategy.rule.{name}={share} must be a number in [0, 1].")
        if self.sends not in (ENCODER, FOLLOWER):
            raise ValueError(f"strategy.rule.sends={self.sends} must be {ENCODER} or {FOLLOWER}.")
        if not (isinstance(self.follower, str) and self.follower):
            raise ValueError(f"strategy.rule.follower={self.follower} must be the start of a name, such as target.")
        check_patterns(self.personal, where="strategy.rule.personal")

    def check(self, state: Arrays, shared: Collection[str]) -> None:
        """Reject a follower that is not there or travels, and a predictor's share without a predictor, see `Rule`."""
        if any(name.startswith(self.follower) for name in shared):
            raise ValueError(
                f"strategy.rule.follower={self.follower} begins the names of arrays that travel: set it to how those of"
                " the follower begin, which stays with its client: target. of task=byol, key_encoder. of task=moco_v2."
            )
        if (self.own_follower < 1 or self.sends == FOLLOWER) and not self._followers(state, shared):
            raise ValueError(
                f"strategy.rule.follower={self.follower} begins the name of no array that follows one that travels: "
                "choose a task with a follower, such as task=byol (target.) or task=moco_v2 (key_encoder.), or leave "
                "strategy.rule.own_follower=1 and strategy.rule.sends=encoder."
            )
        if self.own_predictor != self.own_encoder and not any(fits(name, self.personal) for name in shared):
            raise ValueError(
                f"strategy.rule.personal={list(self.personal)} fits no array that travels, so "
                f"strategy.rule.own_predictor={self.own_predictor} has no effect: set task.personal to the names of "
                "the predictor, such as [predictor.*]."
            )

    def receive(self, arrived: Arrays, kept: Arrays, initial: Arrays, when: When) -> Arrays:
        """Give each part what arrives, the client's own arrays or a mixture, see `Rule.receive`."""
        state = Replace().receive(arrived, kept, initial, when)
        sources = {name: name for name in arrived} | self._followers(state, arrived.keys())
        for name, source in sources.items():
            share = self._own_share(name) if when.last_round else 0
            if share == 0:
                state[name] = arrived[source]
            elif share == 1 or not is_parameter(name, arrived[source]):
                state[name] = kept[name]
            else:
                state[name] = share * kept[name] + (1 - share) * arrived[source]
        return state

    def keep(self, kept: Arrays, start: Arrays, state: Arrays, shared: Collection[str]) -> Arrays:
        return {name: array for name, array in state.items() if name not in shared or self._own_share(name) > 0}

    def send(self, state: Arrays, shared: Collection[str]) -> Arrays:
        followers = {source: name for name, source in self._followers(state, shared).items()}
        names = followers if self.sends == FOLLOWER else {}
        return {name: state[names.get(name, name)] for name in shared}

    def _own_share(self, name: str) -> float:
        if name.startswith(self.follower):
            return self.own_follower
        return self.own_predictor if fits(name, self.personal) else self.own_encoder

    def _followers(self, state: Arrays, shared: Collection[str]) -> dict[str, str]:
        """The follower's arrays -> those of the encoder that they follow."""
        pairs = ((name, name.removeprefix(self.follower)) for name in state if name.startswith(self.follower))
        return {name: source for name, source in pairs if source in shared}
