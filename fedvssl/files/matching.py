"""Find the state of a backbone in the content of a checkpoint, by names and shapes.

Programs wrap it in dictionaries (`state_dict`, `model_state`, `teacher`) and put words before its names (`module.`,
`backbone.`, `encoder_q.0.`). A word is stripped, whatever it is, if then every name and every shape fits: so nothing
is guessed. BatchNorm's counters may be missing, as from PyTorch before 0.4.1.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedvssl.files.arrays import BACKBONE
from fedvssl.files.foreign import UnfitError
from fedvssl.files.names import listed, shown
from fedvssl.files.renaming import sequential_name, torchvision_name

COUNTER = "num_batches_tracked"
MOST_DEPTH = 4  # of dictionaries in each other
MOST_TRIED = 10_000  # places and prefixes
USUAL = ("", "state_dict", "model")  # dictionaries of our own checkpoints, and of published ones
# Of two states that fit, the trained network comes before its moving average, but DINO's authors evaluate the teacher.
COPIES = re.compile(r"(^|[._])(target|momentum|ema|key|encoder_k|follower|student)([._]|$)")
Naming = Callable[[str], str]
NAMINGS: dict[str, Naming] = {
    "": lambda name: name,
    "torchvision's names": torchvision_name,
    "numbered layers": sequential_name,
}


@dataclass(frozen=True)
class Found:
    """A state that fits, or the place where it should be.

    Args:
        place: keys of the dictionaries around it.
        prefix: before each name.
        naming: key of NAMINGS.
        state: all tensors of that place.
        fault: the first thing that does not fit; "" if all does.
    """

    place: str
    prefix: str
    naming: str
    state: dict[str, Tensor]
    fault: str = ""

    @property
    def rank(self) -> tuple[bool, bool]:
        """Smaller is better."""
        own = self.prefix == BACKBONE and self.place in USUAL and not self.naming
        return not own, bool(COPIES.search(f"{self.place}.{self.prefix}"))

    def entry(self, name: str) -> Tensor | None:
        """The tensor of one of our names."""
        return self.state.get(self.prefix + NAMINGS[self.naming](name))

    def words(self) -> str:
        """ "'module.backbone.*' in 'state_dict'", or "torchvision's names after 'module.'" """
        names = self.naming and f"{self.naming} after {shown(self.prefix)}" if self.prefix else self.naming
        names = names or (shown(f"{self.prefix}*") if self.prefix else "bare names")
        return f"{names} in {shown(self.place)}" if self.place else names


def find_state(content: Any, own: Mapping[str, Tensor], *, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of a backbone by our names, in our dtypes, and lines about where they were found.

    Args:
        content: of the checkpoint.
        own: state of the backbone; any device, meta included.
        path: of the file, for the sentences.

    Returns:
        the state, with counters of 0 if the file has none; no line for the usual place.

    Raises:
        UnfitError: if nothing fits, several different states do, or numbers are not finite.
    """
    states = [*_states(content)]
    tried = sorted(_candidates(states, own, path=path), key=lambda one: (bool(one.fault), one.rank))
    if not tried:
        raise UnfitError(f"{path} {_nothing(states, own)}.")
    best = tried[0]
    if best.fault:
        raise UnfitError(best.fault)
    state = _converted(best, own, path=path)
    others = [one for one in tried[1:] if not one.fault and not _same(_converted(one, own, path=path), state)]
    if twin := next((one for one in others if one.rank == best.rank), None):
        raise UnfitError(
            f"{path} holds two backbones, {best.words()} and {twin.words()}: give a file with one of them."
        )
    lines = (
        []
        if best.rank == (False, False)
        else [f"the backbone is read from {best.words()}, all {len(state)} entries fit"]
    )
    lines += [f"{others[0].words()} would fit too, and is left"] if lines and others else []
    if any(name.endswith(COUNTER) and best.entry(name) is None for name in own):
        lines.append("it has no counters of BatchNorm, which start at 0")
    return state, lines


def _states(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Dictionaries that hold tensors by name, with the keys that lead to them."""
    waiting, seen = [("", content, 0)], set()
    while waiting and len(seen) < MOST_TRIED:
        place, item, depth = waiting.pop(0)
        if not isinstance(item, dict) or id(item) in seen:
            continue
        seen.add(id(item))
        if tensors := {name: each for name, each in item.items() if isinstance(name, str) and torch.is_tensor(each)}:
            yield place, tensors
        if depth < MOST_DEPTH:
            inner = ((key, value) for key, value in item.items() if isinstance(key, str) and isinstance(value, dict))
            waiting += [(f"{place}.{key}" if place else key, value, depth + 1) for key, value in inner]


def _candidates(
    states: list[tuple[str, dict[str, Tensor]]], own: Mapping[str, Tensor], *, path: Path
) -> Iterator[Found]:
    """Places and prefixes that have the first of our names, or one of the usual ones."""
    first, num_tried = next(iter(own)), 0
    for place, state in states:
        for naming, rename in NAMINGS.items():
            if naming and rename(first) == first:
                continue
            end = rename(first)
            prefixes = {name.removesuffix(end) for name in state if name == end or name.endswith(f".{end}")}
            prefixes |= {BACKBONE} if not naming and any(name.startswith(BACKBONE) for name in state) else set()
            for prefix in sorted(prefixes):
                if (num_tried := num_tried + 1) > MOST_TRIED:
                    return
                found = Found(place, prefix, naming, state)
                yield Found(place, prefix, naming, state, _fault(found, own, path=path))


def _fault(found: Found, own: Mapping[str, Tensor], *, path: Path) -> str:
    """The first name, shape or dtype that does not fit, as a sentence; "" if all do."""
    rename, expected = NAMINGS[found.naming], set[str]()
    without_counters = not any(found.entry(name) is not None for name in own if name.endswith(COUNTER))
    for name, tensor in own.items():
        theirs = found.prefix + rename(name)
        expected.add(theirs)
        entry = found.entry(name)
        if entry is None and not (without_counters and name.endswith(COUNTER)):
            return f"{path} has no {shown(theirs)}: it is a checkpoint of another model."
        if entry is not None and entry.shape != tensor.shape:
            shapes = f"{[*entry.shape]} in {path} and {[*tensor.shape]} in this configuration"
            return f"{shown(theirs)} is {shapes}: check model."
        if entry is not None and not _is_number_for(entry, tensor):
            return f"{shown(theirs)} is {_dtype(entry)} in {path} and {_dtype(tensor)} in the model: check the file."
    stages = {_stage(rename(name)) for name in own}
    strict = found.prefix == BACKBONE  # where nothing else lies; elsewhere a classifier does, or the whole program
    for name in found.state:
        if (
            name not in expected
            and name.startswith(found.prefix)
            and (strict or _stage(name.removeprefix(found.prefix)) in stages)
        ):
            return f"{path} has an unknown {shown(name)}: it is a checkpoint of another model."
    return ""


def _stage(name: str) -> str:
    """layer4.0.conv1.weight -> layer"""
    return name.partition(".")[0].rstrip("0123456789")


def _is_number_for(entry: Tensor, own: Tensor) -> bool:
    """True for any precision, and for counters that an average has made floats."""
    if own.is_floating_point():
        return entry.is_floating_point()
    return not entry.is_complex() and entry.dtype != torch.bool


def _converted(found: Found, own: Mapping[str, Tensor], *, path: Path) -> dict[str, Tensor]:
    state = {}
    for name, tensor in own.items():
        if (entry := found.entry(name)) is None:  # a counter
            entry = torch.zeros(tensor.shape)
        state[name] = entry.to(tensor.dtype, copy=True, memory_format=torch.contiguous_format)
        if not torch.isfinite(entry).all() or not torch.isfinite(state[name]).all():
            key = shown(found.prefix + NAMINGS[found.naming](name))
            raise UnfitError(f"{key} in {path} holds values that are not finite: take an earlier round.")
    return state


def _same(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _nothing(states: list[tuple[str, dict[str, Tensor]]], own: Mapping[str, Tensor]) -> str:
    """End of the sentence about a file without any of our names."""
    expected = f"expected are names such as '{BACKBONE}{next(iter(own))}'"
    if not states:
        return f"holds no named tensors, {expected}: save the model's state_dict() where it was made"
    place, state = max(states, key=lambda one: len(one[1]))
    inside = f" in {shown(place)}" if place else ""
    return f"is of another model: it holds {listed([*state])}{inside}, {expected}"
