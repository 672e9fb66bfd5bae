"""Frames of a container as a player shows them: upright, without those that are damaged, which are counted.

The pixel aspect is left as it is. Shapes: H W pixels.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

MAX_LOST = 0.1  # share of a video's frames; a video that lost more is left out
WITH_SOUND = 0.1  # seconds by which a header may be off in a file with sound, whose last packets are padded
MOST_ERRORS = 1000  # in a row, of a file of which nothing more can be read
# Formats whose headers say how long the file was when it was whole; others are measured by what is left of them.
STATING = ("mov,", "avi", "matroska,", "flv", "mxf")
MADE_UP = {  # first bytes of files that are no video -> what they are
    b"version https://git-lfs": "is a pointer of Git LFS and no video: fetch the file with git lfs pull",
    b"<!doctype html": "is a web page and no video: download the video again",
    b"<html": "is a web page and no video: download the video again",
    b"<?xml": "is an XML text and no video: download the video again",
    b"{": "is a text and no video: download the video again",
    b"PK\3\4": "is a zip and no video: unpack it",
}


class VideoError(ValueError):
    """A video that cannot be read; the message names the file."""


@dataclass
class Loss:
    """Number of frames that a video shows, and of those that it lost.

    Args:
        shown: frames that can be used.
        damaged: packets that cannot be decoded.
        other_size: frames of another size than the first.
        missing: frames by which the file ends before the time that its header states.
    """

    shown: int = 0
    damaged: int = 0
    other_size: int = 0
    missing: int = 0

    @property
    def lost(self) -> int:
        return self.damaged + self.other_size + self.missing

    @property
    def share(self) -> float:
        """Share of lost frames among all, from 0 to 1."""
        return self.lost / max(1, self.shown + self.lost)

    def __str__(self) -> str:
        """ "49 of 50 frames (1 damaged)" """
        words = {"damaged": "damaged", "other_size": "of another size", "missing": "missing at its end"}
        reasons = [f"{number} {words[kind]}" for kind, number in asdict(self).items() if kind in words and number]
        return f"{self.shown} of {self.shown + self.lost} frames ({', '.join(reasons)})"


class Container:
    """One pass over the frames of a container; `loss` is complete at its end.

    Args:
        path: the file; its content counts, not its ending.
        max_lost: largest share of lost frames, 0 to 1.
    """

    def __init__(self, path: Path, *, max_lost: float = MAX_LOST) -> None:
        self.path, self.max_lost, self.loss = path, max_lost, Loss()

    def frames(self) -> Iterator[np.ndarray]:
        """All frames one after the other, each uint8 [H,W,3] RGB, upright.

        Raises:
            VideoError: as `decoded`.
        """
        to_pixels = pixel_converter()
        return (to_pixels(frame) for frame in self.decoded())

    def decoded(self) -> Iterator[av.VideoFrame]:
        """All frames of the size of the first, as the decoder has them.

        Raises:
            VideoError: if the file cannot be opened or shows no frame; at the end if it lost more than `max_lost`.
        """
        try:
            # A tag that is not UTF-8 must not prevent decoding.
            with av.open(str(self.path), metadata_errors="ignore") as container:
                yield from self._of_one_size(container)
        except VideoError:
            raise
        except (FFmpegError, OSError) as error:
            raise VideoError(f"{self.path} {_why_unreadable(self.path, error)}.") from error
        except Exception as error:  # a damaged file may raise anything
            raise VideoError(f"{self.path} cannot be decoded ({type(error).__name__}): re-encode it.") from error
        if self.loss.share > self.max_lost:
            raise VideoError(
                f"{self.path} has {self.loss}: it lost more than {self.max_lost:.0%} of its frames, get it anew, or "
                "extract its frames with a larger --max_lost."
            )

    def _of_one_size(self, container: InputContainer) -> Iterator[av.VideoFrame]:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise VideoError(f"{self.path} has no video stream.")
        if stream.codec_context is None:
            raise VideoError(f"{self.path} has a codec that cannot be decoded here: re-encode it, such as with H.264.")
        size = None
        for frame in self._all(container, stream):
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) == size:
                self.loss.shown += 1
                yield frame
            else:
                self.loss.other_size += 1
        if self.loss.shown == 0:
            is_encrypted = stream.codec_context.codec_tag in ("encv", "drmi")
            fault = "is encrypted" if is_encrypted else "has no frame that can be decoded"
            raise VideoError(f"{self.path} {fault}: get the file anew.")

    def _all(self, container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """All frames that can be decoded; what is damaged or missing is counted."""
        stated, spans = _stated_end(container, stream), defaultdict[int, _Span](_Span)
        as_shown = container.format.name != "avi"  # it numbers frames as they are read; when they are shown is a guess
        for packet in _packets(container, None if stated else stream):
            if not packet.size:  # as an AVI has for a repeated frame; it would end the decoder's work
                continue
            spans[packet.stream.index].add(packet, as_shown=as_shown)
            if packet.stream.index == stream.index:
                yield from self._decode(packet.decode)
        yield from self._decode(lambda: stream.decode(None))
        own = spans[stream.index]
        if stated and own.end > own.begin:
            short = stated - max(span.end for span in spans.values())
            leeway = WITH_SOUND if len(spans) > 1 else 0.0
            self.loss.missing = round(short * own.packets / (own.end - own.begin)) if short > leeway else 0

    def _decode(self, take: Callable[[], Sequence[av.VideoFrame]]) -> Sequence[av.VideoFrame]:
        try:
            return take()
        except EndOfFile:
            return []
        except FFmpegError:
            self.loss.damaged += 1
            return []


@dataclass
class _Span:
    """Time in seconds that the packets of one stream cover, and their number.

    A packet without a duration lasts as long as the longest step before it.
    """

    begin: float = math.inf
    end: float = -math.inf
    packets: int = 0
    last: float = math.inf
    longest: float = 0.0

    def add(self, packet: av.Packet, *, as_shown: bool) -> None:
        """Take in a packet by the time at which it is shown, or else read."""
        first, second = (packet.pts, packet.dts) if as_shown else (packet.dts, packet.pts)
        stamp = second if first is None else first
        if stamp is None or not packet.time_base:
            return
        time, duration = float(stamp * packet.time_base), float((packet.duration or 0) * packet.time_base)
        read = time if packet.dts is None else float(packet.dts * packet.time_base)
        self.longest, self.last = max(self.longest, read - self.last), read
        self.begin, self.end = min(self.begin, time), max(self.end, time + (duration or self.longest))
        self.packets += 1


def pixel_converter() -> Callable[[av.VideoFrame], np.ndarray]:
    """Converter of one video's decoded frames to uint8 [H,W,3] RGB, turned and mirrored as the first one says."""
    reformatter = VideoReformatter()
    matrix = None

    def convert(frame: av.VideoFrame) -> np.ndarray:
        nonlocal matrix
        matrix = display_matrix(frame) if matrix is None else matrix
        # One for all frames and without threads: starting either takes longer than converting a small frame.
        return upright(reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray(), matrix)

    return convert


def display_matrix(frame: av.VideoFrame) -> np.ndarray:
    """Matrix [3,3] by which a player turns and mirrors a frame; row vectors (x, y, 1) are multiplied from the left."""
    stored = frame.side_data.get(Type.DISPLAYMATRIX)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return np.eye(3, dtype=np.int32) if stored is None else np.frombuffer(bytes(stored), np.int32).reshape(3, 3)


def upright(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Turn and mirror pixels [H,W,3] by a display matrix [3,3], to the nearest quarter turn."""
    (to_right, right_to_down), (down_to_right, to_down) = matrix[:2, :2].tolist()
    if abs(to_right) + abs(to_down) < abs(right_to_down) + abs(down_to_right):
        pixels, to_right, to_down = pixels.swapaxes(0, 1), down_to_right, right_to_down
    return np.ascontiguousarray(pixels[:: -1 if to_down < 0 else 1, :: -1 if to_right < 0 else 1])


def _packets(container: InputContainer, stream: av.VideoStream | None) -> Iterator[av.Packet]:
    """Packets of a stream, or of all, to the end of the file: what cannot be read is passed over."""
    errors = 0
    while errors < MOST_ERRORS:
        try:
            for packet in container.demux(stream) if stream else container.demux():
                errors = 0
                yield packet
            return
        except EndOfFile:
            return
        except FFmpegError:
            errors += 1


def _stated_end(container: InputContainer, stream: av.VideoStream) -> float | None:
    """Time in seconds at which the whole file ended by its header; None if the header does not say it."""
    if not container.format.name.startswith(STATING):
        return None
    if container.format.name == "avi":  # its duration is corrected by the size of the file
        return float(stream.frames * stream.time_base) if stream.time_base else None
    if not container.duration or container.duration < 0:
        return None
    # These two count from the first frame, the others from zero.
    begin = max(0, container.start_time or 0) if container.format.name.startswith(("mov,", "mxf")) else 0
    return (begin + container.duration) / av.time_base


def _why_unreadable(path: Path, error: Exception) -> str:
    """Reason in words and advice, told by the first bytes of the file."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return "cannot be opened: check that it is there, and that you may read it"
    start = head.lstrip(b"\xef\xbb\xbf\r\n\t ").lower()
    if not head:
        return "is empty: get the file anew"
    if words := next((words for begin, words in MADE_UP.items() if start.startswith(begin.lower())), None):
        return words
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free", b"moov") or head[:4] in (b"\x1aE\xdf\xa3", b"RIFF", b"OggS"):
        return "is damaged, or a part of a video as a download that was cut off leaves it: get the file anew"
    return "is no video that can be decoded, or it is damaged: get the file anew"
