"""Small action set as real .avi files with UCF-style lists; its classes differ by motion and not by look.

    python -m data_tools.synthetic --out_dir data/synthetic
    python -m data_tools.synthetic --out_dir data/tasks --num_frames 72 --sky --bursts     for all pretext tasks

Writes `<out_dir>/raw/<Class>/v_<Class>_gXX_cYY.avi` and `<out_dir>/lists/{classInd,trainlist01,testlist01}.txt`.
Textured sprites move over a textured background; they leave the picture on one side and enter on the other. Every
sprite starts at a uniformly random place and angle, so at any time places and angles have the same distribution in all
classes, and no single frame shows the class. No class mirrors another, because training flips clips left to right.
In these videos up and down look alike, and most motions look alike backwards. Tasks that ask for a turn or for the
direction of time need more: `sky` gives every frame an up, `bursts` gives every motion a direction in time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np

from fedvssl.files.atomic import atomic_path
from fedvssl.files.environment import num_cores
from fedvssl.files.lock import owned
from fedvssl.files.progress import Progress

from .command import command_parser, run_command
from .workers import in_processes

Job = tuple[Path, str, tuple[int, ...]]  # file, motion, seed
Motion = tuple[np.ndarray, np.ndarray, np.ndarray]  # x and y in heights of the picture, angle in radians, each [T]
CLIPS_PER_GROUP = 3
NUM_SPRITES = 3
SKY_SHARE = 0.4  # of the background's colour
BURST = 12  # frames
BACKGROUND_CELLS = (12, 16)  # rows and columns; on a smoother background Catch-the-Patch cannot see its patches


def _circle(t: np.ndarray, side: float) -> Motion:
    return 0.12 * np.cos(side * 0.25 * t), 0.12 * np.sin(side * 0.25 * t), 0 * t


def _drift(t: np.ndarray, side: float) -> Motion:
    return side * 0.03 * t, 0 * t, 0 * t


def _fall(t: np.ndarray, side: float) -> Motion:
    return 0 * t, 0.03 * t, 0 * t


def _rise(t: np.ndarray, side: float) -> Motion:
    return 0 * t, -0.03 * t, 0 * t


def _shake(t: np.ndarray, side: float) -> Motion:
    return side * 0.07 * np.sin(0.8 * t), 0 * t, 0 * t


def _spin(t: np.ndarray, side: float) -> Motion:
    return 0 * t, 0 * t, side * 0.2 * t


# Time in frames and side (-1 or 1, drawn per video) -> displacement from the random start.
MOTIONS: dict[str, Callable[[np.ndarray, float], Motion]] = {
    "Circle": _circle,
    "Drift": _drift,
    "Fall": _fall,
    "Rise": _rise,
    "Shake": _shake,
    "Spin": _spin,
}


@dataclass(frozen=True)
class SyntheticSet:
    """Size and looks of the data set; videos per class, sizes in pixels. See `make_video` for the rest."""

    num_classes: int = 6
    train_videos: int = 16
    test_videos: int = 20
    width: int = 96
    height: int = 72
    num_frames: int = 36
    seed: int = 0
    sky: bool = False
    bursts: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.num_classes <= len(MOTIONS):
            raise ValueError(f"num_classes={self.num_classes}: there are 2 to {len(MOTIONS)} classes.")
        if min(self.train_videos, self.test_videos, self.num_frames) < 1:
            raise ValueError("train_videos, test_videos and num_frames are at least 1.")
        if min(self.width, self.height) < 32 or self.width % 2 or self.height % 2:
            raise ValueError(f"{self.width}x{self.height}: width and height are even numbers from 32.")


def make_video(
    motion: str,
    rng: np.random.Generator,
    *,
    width: int,
    height: int,
    num_frames: int,
    sky: bool = False,
    bursts: bool = False,
) -> np.ndarray:
    """Render one video.

    Args:
        motion: one of MOTIONS.
        rng: draws everything random.
        width, height: of the frames, pixels.
        num_frames: T.
        sky: the upper half of the background is light and the lower half dark.
        bursts: every `BURST` frames the motion starts suddenly, and then dies away; its mean speed is the same.

    Returns:
        uint8 [T,height,width,3] RGB.
    """
    background = _background(rng, width=width, height=height)
    if sky:
        background *= 1 - SKY_SHARE
        background[: height // 2] += SKY_SHARE
    side = rng.choice([-1.0, 1.0])
    # The phase is random too, so that the first frame is no special one.
    t = np.arange(num_frames) + rng.uniform(0, 100)
    dx, dy, turn = MOTIONS[motion](in_bursts(t) if bursts else t, side)
    frames = np.repeat(background[None], num_frames, axis=0)
    for _ in range(NUM_SPRITES):
        radius = height * rng.uniform(0.16, 0.24)
        texture = _random_colours(rng, 4, 4)
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * np.pi)
        for index in range(num_frames):
            place = (x + height * dx[index], y + height * dy[index])
            _paste(frames[index], texture, place, angle=angle + turn[index], radius=radius)
    return (frames * 255 + 0.5).astype(np.uint8)


def in_bursts(t: np.ndarray) -> np.ndarray:
    """Time in frames [T] -> a time that starts each burst at twice the speed and slows down to a halt at its end."""
    begin, passed = np.divmod(t, BURST)
    return BURST * (begin + 1 - (1 - passed / BURST) ** 2)


def write_video(path: Path, frames: np.ndarray, *, codec: str = "mpeg4", frames_per_second: int = 25) -> None:
    """Encode uint8 [T,H,W,3] RGB frames; the container follows the ending of `path`."""
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        stream = container.add_stream(codec, rate=frames_per_second)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.qmin, stream.codec_context.qmax = 2, 4  # the codec must not leave marks of the motion
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_dataset(out_dir: Path, spec: SyntheticSet, *, num_workers: int = 1) -> None:
    """Write all videos, with several processes, and the lists.

    The first groups of every class are the test groups, as in UCF-101.
    """
    classes = sorted(MOTIONS)[: spec.num_classes]
    lines: dict[str, list[str]] = {"trainlist01.txt": [], "testlist01.txt": []}
    lines["classInd.txt"] = [f"{label} {name}" for label, name in enumerate(classes, start=1)]
    test_groups = -(-spec.test_videos // CLIPS_PER_GROUP)
    places = [(True, 1, index) for index in range(spec.test_videos)]
    places += [(False, 1 + test_groups, index) for index in range(spec.train_videos)]
    jobs = []
    for label, motion in enumerate(classes):
        for is_test, first_group, index in places:
            group, clip = first_group + index // CLIPS_PER_GROUP, 1 + index % CLIPS_PER_GROUP
            name = f"{motion}/v_{motion}_g{group:02d}_c{clip:02d}.avi"
            jobs.append((out_dir / "raw" / name, motion, (spec.seed, label, group, clip)))
            lines["testlist01.txt" if is_test else "trainlist01.txt"].append(name if is_test else f"{name} {label + 1}")
    with owned(out_dir, writes=("raw/*/*.avi", "lists/*.txt")):
        with Progress("writing videos", len(jobs)) as progress:
            for _ in _run(partial(_write_one, spec=spec), jobs, num_workers=num_workers):
                progress.advance()
        for file_name, content in lines.items():
            with atomic_path(out_dir / "lists" / file_name) as temporary:
                # CRLF, as in the official lists.
                temporary.write_text("".join(f"{line}\n" for line in content), encoding="utf-8", newline="\r\n")


def _run(write: Callable[[Job], None], jobs: Sequence[Job], *, num_workers: int) -> Iterator[None]:
    return map(write, jobs) if num_workers == 1 else in_processes(write, jobs, num_workers=num_workers)


def _write_one(job: Job, *, spec: SyntheticSet) -> None:
    path, motion, key = job
    rng = np.random.default_rng(key)
    size = {"width": spec.width, "height": spec.height, "num_frames": spec.num_frames}
    frames = make_video(motion, rng, **size, sky=spec.sky, bursts=spec.bursts)
    write_video(path, frames)


def _background(rng: np.random.Generator, *, width: int, height: int) -> np.ndarray:
    """Textured background, float32 [height,width,3] in 0.1..0.9."""
    ys, xs = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    coarse = 0.1 + 0.8 * _random_colours(rng, *BACKGROUND_CELLS)
    return _sample(coarse, ys * len(coarse) / height, xs * coarse.shape[1] / width)


def _random_colours(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A coarse texture, float32 [rows,columns,3] in 0..1, to be read with `_sample`."""
    return rng.uniform(0, 1, size=(rows, columns, 3)).astype(np.float32)


def _sample(image: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Bilinear values of a periodic image [H,W,3] at the places [...]: [...,3]."""
    height, width = image.shape[:2]
    top, left = np.floor(ys).astype(int), np.floor(xs).astype(int)
    fy, fx = (ys - top)[..., None], (xs - left)[..., None]
    rows, columns = (top % height, (top + 1) % height), (left % width, (left + 1) % width)
    upper = image[rows[0], columns[0]] * (1 - fx) + image[rows[0], columns[1]] * fx
    lower = image[rows[1], columns[0]] * (1 - fx) + image[rows[1], columns[1]] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def _paste(frame: np.ndarray, texture: np.ndarray, place: tuple[float, float], *, angle: float, radius: float) -> None:
    """Lay a round sprite with a soft edge on the frame [H,W,3], in place, around the torus."""
    (x, y), (height, width) = place, frame.shape[:2]
    reach = int(radius) + 2
    rows = np.arange(int(y) - reach, int(y) + reach + 1)
    columns = np.arange(int(x) - reach, int(x) + reach + 1)
    dy, dx = np.meshgrid(rows - y, columns - x, indexing="ij")
    along = np.cos(angle) * dx + np.sin(angle) * dy
    across = np.cos(angle) * dy - np.sin(angle) * dx
    scale = len(texture) / (2 * radius)
    opacity = np.clip(radius - np.hypot(dy, dx), 0, 1)[..., None].astype(np.float32)
    pixels = np.ix_(rows % height, columns % width)
    frame[pixels] = (1 - opacity) * frame[pixels] + opacity * _sample(texture, across * scale, along * scale)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--out_dir", type=Path, default=Path("data/synthetic"), help="folder for raw/ and lists/")
    for name, meaning in {
        "num_classes": f"2 to {len(MOTIONS)}",
        "train_videos": "per class",
        "test_videos": "per class",
        "width": "of the pictures, pixels",
        "height": "of the pictures, pixels",
        "num_frames": "per video",
        "seed": "another seed, other videos",
    }.items():
        parser.add_argument(f"--{name}", type=int, default=getattr(SyntheticSet, name), help=meaning)
    for name, meaning in {
        "sky": "a light sky over a dark ground, so that a frame shows where up is",
        "bursts": f"motions start suddenly and die away within {BURST} frames, so that they look other backwards",
    }.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    parser.add_argument("--num_workers", type=int, default=num_cores(), help="processes")
    args = vars(parser.parse_args(argv))
    out_dir, num_workers = args.pop("out_dir"), args.pop("num_workers")
    if num_workers < 1:
        raise ValueError(f"--num_workers {num_workers}: at least one process is needed.")
    write_dataset(out_dir, SyntheticSet(**args), num_workers=num_workers)


if __name__ == "__main__":
    run_command(main)
