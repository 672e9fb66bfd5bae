"""Raw videos -> one zip of JPEG frames each: `<out_dir>/<Class>/<stem>.zip` with img_00001.jpg, img_00002.jpg, ...

    python -m data_tools.extract_frames --raw_dir data/ucf101/raw --ann_dir data/ucf101/lists --out_dir data/ucf101/zips

With --ann_dir the listed videos are extracted under their listed names; without it every video in --raw_dir, under its
path. Frames are upright, as a player shows them, with the pixel aspect of the file. Finished zips are kept, so the
command can be run again after a stop. Damaged frames are left out and counted. A video that lost more of them than
--max_lost, a still picture, and what cannot be decoded are named, also in `<out_dir>/extract_report.json`.
"""

import argparse
import errno
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from unicodedata import normalize

import simplejpeg

from fedvssl.data.container import MAX_LOST, Container, Loss, VideoError
from fedvssl.data.scale import resized_shape
from fedvssl.data.video import zip_path
from fedvssl.files.atomic import atomic_path, read_json, write_json
from fedvssl.files.environment import num_cores
from fedvssl.files.lock import owned
from fedvssl.files.progress import Progress

from .command import command_parser, run_command
from .estimate import check_disk, estimate
from .list_words import some
from .lists import Splits, read_splits
from .raw_videos import Match, find_raw_videos, match_to_names, name_by_path
from .workers import in_processes

REPORT_NAME = "extract_report.json"
Job = tuple[str, Path, Path]  # "<Class>/<stem>", raw file, zip
Outcome = tuple[str, str, str]  # name, reason for which it is not stored, what it lost
LEAST_FRAMES = 2  # of a video: a clip of one frame would be this frame again and again
LARGEST_SIDE = 65500  # pixels of a JPEG
MANY = 20  # videos from which on an estimate is printed before the extraction


@dataclass(frozen=True)
class FrameFormat:
    """Format of the frames: short side in pixels (0 keeps the size of the video) and JPEG quality, 1 to 100."""

    short_side: int = 144
    quality: int = 90

    def __post_init__(self) -> None:
        if self.short_side < 0:
            raise ValueError(f"--short_side {self.short_side}: give pixels, or 0 to keep the size of the videos.")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality {self.quality}: JPEG quality goes from 1 to 100.")


@dataclass
class Report:
    """Outcome for every video; `failed` and `doubtful` map a name to the reason, `lost` to what it lost."""

    frames: FrameFormat
    written: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    doubtful: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    def print(self, *, missing: bool = True) -> None:
        """Print the counts, each video that failed, and some that lack a raw file of their own, unless told later."""
        print(f"{self.written} videos extracted, {self.kept} kept from before, {len(self.failed)} failed.")
        for name, reason in sorted(self.failed.items()):
            print(f"  failed: {name}: {reason}")
        if self.lost:
            losses = [f"{name} has {lost}" for name, lost in self.lost.items()]
            print(f"{len(self.lost)} videos lost frames: {some(losses)}")
        if missing and self.missing:
            print(f"{len(self.missing)} videos of the lists have no raw file: {some(self.missing)}")
        if self.doubtful:
            reasons = [f"{name} ({reason})" for name, reason in self.doubtful.items()]
            print(f"{len(self.doubtful)} videos have no file or name of their own: {some(reasons)}")


def extract_video(raw: Path, zip_path: Path, *, frames: FrameFormat, max_lost: float = MAX_LOST) -> Loss:
    """Decode, resize and store one video, or nothing; returns what it lost.

    Raises:
        VideoError: if it cannot be decoded, is a still picture, or lost more than the share `max_lost` of its frames.
    """
    container = Container(raw, max_lost=max_lost)
    with atomic_path(zip_path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for number, jpeg in enumerate(encode_frames(container, frames=frames), start=1):
            # A fixed date makes two extractions of one video the same, byte for byte.
            archive.writestr(zipfile.ZipInfo(f"img_{number:05d}.jpg"), jpeg)
        if container.loss.shown < LEAST_FRAMES:
            raise VideoError(f"{raw} is a still picture: it has one frame.")
    return container.loss


def encode_frames(container: Container, *, frames: FrameFormat) -> Iterator[bytes]:
    """The JPEG of every frame; a strip whose resized frames no JPEG could hold keeps its size.

    Raises:
        VideoError: as `Container.decoded`.
    """
    from fedvssl.data.geometry import resize  # loads PyTorch: a mistake in the command is told before

    for frame in container.frames():
        height, width, _ = frame.shape
        if frames.short_side and max(resized_shape(height, width, frames.short_side)) <= LARGEST_SIDE:
            frame = resize(frame, frames.short_side)
        if max(frame.shape) > LARGEST_SIDE:
            raise VideoError(f"{container.path} has frames of {width}x{height} pixels, a JPEG {LARGEST_SIDE} at most.")
        yield simplejpeg.encode_jpeg(frame, quality=frames.quality, colorspace="RGB", colorsubsampling="420")


def extract_videos(
    videos: Mapping[str, Path],
    out_dir: Path,
    *,
    frames: FrameFormat,
    num_workers: int,
    match: Match | None = None,
    max_lost: float = MAX_LOST,
) -> Report:
    """Extract all videos with several processes; finished zips are kept.

    Args:
        videos: "<Class>/<stem>" -> raw file.
        out_dir: folder for the zips and the report. Only one extraction at a time works in it.
        match: result of `find_videos`; its names without a raw file of their own go into the report.
        max_lost: largest share of frames that a video may have lost, 0 to 1.

    Raises:
        ValueError: if another process works in `out_dir`, its zips have another format, the disk is too small (for 20
            videos or more) or takes two names for one, a name leads outside `out_dir`, or a worker process dies.
    """
    if num_workers < 1:
        raise ValueError(f"--num_workers {num_workers}: at least one process is needed.")
    if not 0 <= max_lost <= 1:
        raise ValueError(f"--max_lost {max_lost}: give a share of the frames of a video, 0 to 1.")
    jobs = [(name, raw, zip_path(out_dir, name)) for name, raw in videos.items()]
    with owned(out_dir, writes=("**/*.zip", REPORT_NAME)):
        check_same_format(out_dir / REPORT_NAME, frames)
        check_apart(list(videos), out_dir)
        extract = partial(_try_extract, frames=frames, max_lost=max_lost)
        return _extract_missing(jobs, out_dir, extract, frames=frames, num_workers=num_workers, match=match)


def _extract_missing(
    jobs: list[Job],
    out_dir: Path,
    extract: Callable[[Job], Outcome],
    *,
    frames: FrameFormat,
    num_workers: int,
    match: Match | None,
) -> Report:
    to_do = [job for job in jobs if not job[2].exists()]
    if len(to_do) >= MANY:
        _tell_estimate([raw for _, raw, _ in to_do], out_dir, frames=frames, num_workers=num_workers)
    _, missing, doubtful = match or ((), [], {})
    report = Report(frames, kept=len(jobs) - len(to_do), missing=missing, doubtful=doubtful)
    report.lost |= _lost_before(out_dir / REPORT_NAME, kept={name for name, _, zip_file in jobs if zip_file.exists()})
    report.write(out_dir / REPORT_NAME)
    with Progress("extracting videos", len(jobs)) as progress:
        progress.start_at(report.kept)
        for name, reason, lost in in_processes(extract, to_do, num_workers=num_workers):
            if reason:
                report.failed[name] = reason
            else:
                report.written += 1
            if lost:
                report.lost[name] = lost
            progress.advance()
    report.write(out_dir / REPORT_NAME)
    return report


def _tell_estimate(raws: Sequence[Path], out_dir: Path, *, frames: FrameFormat, num_workers: int) -> None:
    num_processes = min(num_workers, len(raws), num_cores())
    expected = estimate(raws, frame_encoder(frames), num_processes=num_processes)
    if expected:
        check_disk(expected, out_dir)
        print(expected, flush=True)


def frame_encoder(frames: FrameFormat) -> Callable[[Path], Iterator[bytes]]:
    """Raw video -> the JPEG of each frame, for an estimate."""
    return lambda raw: encode_frames(Container(raw), frames=frames)


def _lost_before(report: Path, *, kept: Collection[str]) -> dict[str, str]:
    """What kept videos lost when they were extracted, by the report of that time."""
    before = read_json(report).get("lost", {}) if report.is_file() else {}
    return {name: lost for name, lost in before.items() if name in kept}


def _try_extract(job: Job, *, frames: FrameFormat, max_lost: float) -> Outcome:
    name, raw, zip_path = job
    try:
        loss = extract_video(raw, zip_path, frames=frames, max_lost=max_lost)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return name, "its name is too long for this disk: rename it.", ""
        raise  # a full disk is no fault of the video
    except ImportError:
        raise  # nor is a package that cannot be loaded
    except VideoError as error:
        return name, str(error), ""
    except Exception as error:  # a damaged file may raise anything and must not stop the rest
        return name, f"{raw} cannot be stored as pictures ({type(error).__name__}): re-encode it.", ""
    return name, "", str(loss) if loss.lost else ""


def check_same_format(report: Path, frames: FrameFormat) -> None:
    """Compare with the format in a report of an earlier run, if there is one.

    Raises:
        ValueError: if it is another one.
    """
    if not report.is_file():
        return
    before = FrameFormat(**read_json(report)["frames"])
    if before != frames:
        raise ValueError(
            f"The files in {report.parent} have --short_side {before.short_side} --quality {before.quality}: "
            "use the same, or another output folder."
        )


def check_apart(names: Sequence[str], out_dir: Path) -> None:
    """Reject names that differ in case only where the disk does not tell them apart: they would share one file.

    Raises:
        ValueError: naming the first two.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(normalize("NFC", name).casefold(), []).append(name)
    for first, second in (pair for same in alike.values() for pair in combinations(same, 2)):
        out_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out_dir, prefix=".case") as folder:
            Path(folder, first).mkdir(parents=True)
            if Path(folder, second).exists():
                raise ValueError(f"{first} and {second} are one file on the disk of {out_dir}: choose another disk.")


def find_videos(raw_dir: Path, splits: Splits | None) -> Match:
    """Raw file of every video, and the listed videos that have none of their own.

    Args:
        splits: the lists; None takes every video in `raw_dir`, named after its path.

    Raises:
        ValueError: if there is nothing to extract, or several files fit one name.
    """
    paths = find_raw_videos(raw_dir)
    listed = None if splits is None else {annotation.name: None for split in splits.values() for annotation in split}
    match = name_by_path(paths, raw_dir) if listed is None else match_to_names(paths, listed, raw_dir)
    if not match.found:
        what = f"{len(paths)} videos has a name" if listed is None else f"{len(listed)} listed videos has a file"
        reason = next((f" ({name}: {reason})" for name, reason in match.doubtful.items()), "")
        raise ValueError(f"None of the {what} of its own in {raw_dir}{reason}: check --raw_dir and lists.")
    return match


def add_frame_flags(parser: argparse.ArgumentParser, *, for_pictures: bool = False) -> None:
    words = "short side in pixels, 0 keeps it" + f"; {FrameFormat.short_side} for videos, 0 for pictures" * for_pictures
    default = None if for_pictures else FrameFormat.short_side
    parser.add_argument("--short_side", type=int, default=default, help=words)
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1 to 100")
    parser.add_argument("--num_workers", type=int, default=num_cores(), help="processes")
    parser.add_argument("--max_lost", type=float, default=MAX_LOST, help="share of its frames that a video may lack")


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = command_parser(__doc__)
    parser.add_argument("--raw_dir", type=Path, required=True, help="folder with the raw videos, nested or flat")
    parser.add_argument("--ann_dir", type=Path, help="folder with the split lists; without it every video is taken")
    parser.add_argument("--out_dir", type=Path, required=True, help="folder for the zips")
    add_frame_flags(parser)
    args = parser.parse_args(argv)
    frames = FrameFormat(args.short_side, args.quality)
    match = find_videos(args.raw_dir, read_splits(args.ann_dir) if args.ann_dir else None)
    how = {"num_workers": args.num_workers, "max_lost": args.max_lost}
    extract_videos(match.found, args.out_dir, frames=frames, match=match, **how).print()


if __name__ == "__main__":
    run_command(main)
