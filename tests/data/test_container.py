"""Frames as a player shows them: upright, without damaged ones, which are counted."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fedvssl.data.container import Container, VideoError
from fedvssl.data.video import open_video
from tests.videos import moving_square, write_video

ONE = 1 << 16  # of the 16.16 numbers in the header of an mp4
# Rows (a, b), (c, d) of the matrix by which a player maps the stored (x, y); what it makes of pixels [H,W,3].
TURNS = {
    "upright": ((ONE, 0, 0, ONE), lambda pixels: pixels),
    "quarter": ((0, ONE, -ONE, 0), lambda pixels: np.rot90(pixels, -1)),
    "half": ((-ONE, 0, 0, -ONE), lambda pixels: np.rot90(pixels, 2)),
    "three quarters": ((0, -ONE, ONE, 0), lambda pixels: np.rot90(pixels, 1)),
    "mirrored": ((-ONE, 0, 0, ONE), lambda pixels: pixels[:, ::-1]),
    "upside down": ((ONE, 0, 0, -ONE), lambda pixels: pixels[::-1]),
    "mirrored quarter": ((0, ONE, ONE, 0), lambda pixels: pixels.swapaxes(0, 1)),
}


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write the matrix into the header of the track, as a phone does."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = matrix
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def coloured(num_frames: int = 6) -> np.ndarray:
    """Frames [T,48,64,3] whose quarters differ, so that no turn looks like another."""
    frames = np.zeros((num_frames, 48, 64, 3), np.uint8)
    frames[:, :24, :32, 0], frames[:, :24, 32:, 1], frames[:, 24:, :32, 2] = 200, 200, 200
    return frames


@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_turned_as_by_a_player(turn: str, tmp_path: Path) -> None:
    matrix, expected = TURNS[turn]
    path = write_video(tmp_path / "v.mp4", coloured())
    stored = next(Container(path).frames())
    shown = next(Container(with_matrix(path, matrix)).frames())
    np.testing.assert_array_equal(shown, expected(stored))
    assert np.array_equal(open_video(path).read(np.array([0, 3]))[0], shown)
    if "mirrored" not in turn and turn != "upside down":  # OpenCV turns and does not mirror
        of_opencv = cv2.VideoCapture(str(path)).read()[1][..., ::-1]
        assert of_opencv.shape == shown.shape and np.abs(of_opencv.astype(int) - shown).mean() < 3


def damaged(path: Path, packets: set[int], frames: np.ndarray) -> Path:
    """A video in which these packets hold noise; every packet is a whole picture."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuvj420p"
        for number, frame in enumerate(frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                if number not in packets:
                    container.mux(packet)
                    continue
                noise = av.Packet(b"no picture")
                noise.pts, noise.dts, noise.time_base, noise.stream = packet.pts, packet.dts, packet.time_base, stream
                container.mux(noise)
    return path


def test_damaged_packets_cost_their_frames_alone(tmp_path: Path) -> None:
    frames = moving_square(num_frames=30, height=48, width=64)
    path = damaged(tmp_path / "v.mkv", {4, 11}, frames)
    container = Container(path)
    assert len(list(container.frames())) == container.loss.shown == 28
    assert container.loss.damaged == 2 and str(container.loss) == "28 of 30 frames (2 damaged)"
    assert len(open_video(path)) == 28


def test_a_video_that_lost_too_much_is_refused_with_its_numbers(tmp_path: Path) -> None:
    path = damaged(tmp_path / "v.mkv", {1, 2, 3, 4}, moving_square(num_frames=30, height=48, width=64))
    with pytest.raises(VideoError, match=r"v\.mkv has 26 of 30 frames \(4 damaged\): it lost more than 10%"):
        list(Container(path).frames())
    assert len(list(Container(path, max_lost=0.2).frames())) == 26


@pytest.mark.parametrize("ending", ["avi", "mkv", "mp4", "mov"])
def test_a_whole_file_has_lost_nothing(ending: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"v.{ending}", moving_square(num_frames=23, height=48, width=64))
    container = Container(path)
    assert len(list(container.frames())) == 23 and container.loss.lost == 0


@pytest.mark.parametrize(("ending", "codec"), [("flv", "flv1"), ("wmv", "wmv2"), ("mkv", "mpeg4"), ("mp4", "mpeg4")])
@pytest.mark.parametrize(("start", "step"), [(0, 1), (50, 1), (0, 12)], ids=["usual", "late", "uneven"])
def test_no_header_is_misread(ending: str, codec: str, start: int, step: int, tmp_path: Path) -> None:
    """Some formats give a packet no duration, some count from zero though the video begins later."""
    path = tmp_path / f"v.{ending}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number, pixels in enumerate(moving_square(num_frames=22, height=48, width=64)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = start + number + (step - 1) * (number // 7), Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    container = Container(path)
    assert len(list(container.frames())) == 22 and container.loss.lost == 0, container.loss


def test_the_padding_of_sound_is_no_loss(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w") as output:
        video, sound = output.add_stream("mpeg4", rate=25), output.add_stream("aac", rate=48000, layout="mono")
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for pixels in moving_square(num_frames=5, height=48, width=64):
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for number in range(12):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 48000, 1024 * number
            output.mux(sound.encode(silence))
        output.mux([*video.encode(), *sound.encode()])
    container = Container(tmp_path / "v.mkv")
    assert len(list(container.frames())) == 5 and container.loss.lost == 0


@pytest.mark.parametrize("ending", ["avi", "mkv"])
def test_a_file_that_ends_early_is_told(ending: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"v.{ending}", moving_square(num_frames=60, height=48, width=64), codec="ffv1")
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    container = Container(path, max_lost=0.9)
    shown = len(list(container.frames()))
    assert 10 < shown < 55 and abs(shown + container.loss.missing - 60) <= 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html></html>", "is a web page and no video"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
        (b"PK\x03\x04" + 40 * b"x", "is a zip and no video"),
        (np.random.default_rng(0).bytes(500), "is no video that can be decoded"),
    ],
)
def test_a_file_that_is_no_video_gets_a_sentence_of_its_own(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(VideoError) as caught:
        list(Container(tmp_path / "v.mp4").frames())
    assert sentence in str(caught.value) and "Errno" not in str(caught.value)
