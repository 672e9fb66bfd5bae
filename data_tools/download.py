"""Downloads that resume, are checked by their hash and never leave half a file under the final name.

    python -m data_tools.download https://host/file.zip --sha256 <64 hex digits> --out_dir data/downloads

A partial download is `<name>.part`, with the server's ETag or date in `<name>.part.validator`. A later run requests
only the rest, if the file on the server is still the same (Range, If-Range; RFC 9110, sections 13 and 14).
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from fedvssl.files.atomic import naming
from fedvssl.files.environment import free_bytes
from fedvssl.files.lock import owned
from fedvssl.files.names import check_name
from fedvssl.files.progress import Progress, show_bytes
from fedvssl.files.settings import sha256

from .command import command_parser, run_command

CHUNK_BYTES = 1 << 16  # a chunk that breaks off is lost, so it is small
TIMEOUT_SECONDS = (20, 60)  # to connect, between two pieces of data


@dataclass(frozen=True)
class Source:
    """One file on a server. `size` in bytes, None if it is not published; `md5` only where no `sha256` is published."""

    url: str
    sha256: str = ""
    size: int | None = None
    md5: str = ""

    def __post_init__(self) -> None:
        assert bool(self.sha256) != bool(self.md5), f"{self.url} needs one hash"

    @property
    def file_name(self) -> str:
        return check_name(Path(urlsplit(self.url).path).name, where="the last part of the URL")


class DownloadError(ValueError):
    """A download that cannot be completed; the message says why and what to do."""


class DiskSpaceError(DownloadError):
    """The disk is too small."""


def download(source: Source, folder: Path, *, attempts: int = 6, pause_seconds: float = 2.0) -> Path:
    """Fetch a file unless it is there already, going on after an earlier run.

    Args:
        folder: folder for the file; a file of that name fetched by hand is accepted if its hash is right.
        attempts: number of failures in a row without a byte of progress that end the download.
        pause_seconds: wait after the first failure, doubled after each further one.

    Returns:
        path of the complete, checked file.

    Raises:
        DownloadError: if the server refuses, its certificate cannot be verified, the connection keeps failing, the
            disk is too small, or the size or hash of the content is wrong.
    """
    path = folder / source.file_name
    if path.is_file():
        _check_hash(path, source, advice="delete it and run again")
        _Part(path).remove()  # of a process that was killed after it had finished
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = _Part(path)
    with Progress(f"fetching {source.file_name}", source.size, show=show_bytes) as progress:
        failures = 0
        while True:
            before = part.size
            try:
                _fetch_rest(source, part, progress)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                failures = 1 if part.size > before else failures + 1
                if failures >= attempts:
                    raise DownloadError(
                        f"The connection to {urlsplit(source.url).netloc} failed {attempts} times ({_reason(error)}): "
                        f"run again later ({show_bytes(part.size)} are kept), or fetch {source.url} by hand, unpack it "
                        "and give its folder as --raw_dir (videos, pictures) or --ann_dir (lists)."
                    ) from error
                print(f"{source.file_name}: {_reason(error)}; going on from {show_bytes(part.size)}")
                time.sleep(pause_seconds * 2 ** (failures - 1))
    try:
        _check_hash(part.path, source, advice="it was deleted; run again, or fetch the file by hand")
    except DownloadError:
        part.remove()
        raise
    part.finish(path)
    return path


def check_disk_space(folder: Path, num_bytes: int) -> None:
    """Raise a DiskSpaceError if the disk of `folder` has less than `num_bytes` free."""
    free = free_bytes(folder)
    if num_bytes > free:
        raise DiskSpaceError(
            f"{show_bytes(num_bytes)} are needed and {show_bytes(free)} are free on the disk of {folder}: "
            "make room or choose another folder."
        )


class _Part:
    """Partial download, and the version of the server's file that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._validator = path.with_name(f"{path.name}.part.validator")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def validator(self) -> str:
        return self._validator.read_text(encoding="latin-1") if self._validator.is_file() else ""

    def start(self, validator: str) -> None:
        self.path.write_bytes(b"")
        self._validator.write_text(validator, encoding="latin-1")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._validator.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        self.path.replace(path)
        self.remove()


def _fetch_rest(source: Source, part: _Part, progress: Progress) -> None:
    """Send one request: append the missing bytes, or start anew if the server does not go on from there."""
    headers = {"Accept-Encoding": "identity"}
    # Without a validator nobody could tell whether the rest belongs to the same file.
    if part.size and part.validator:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    try:
        response = requests.get(source.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            raise
        raise DownloadError(
            f"The certificate of {urlsplit(source.url).netloc} cannot be verified: fetch {source.url} by hand, unpack "
            "it and give its folder as --raw_dir (videos, pictures) or --ann_dir (lists)."
        ) from error
    with response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") != f"bytes */{part.size}":
                part.remove()
                raise requests.ConnectionError("the part did not fit the file on the server")
            return  # it is complete already
        _check_status(response, source)
        if response.status_code != requests.codes.partial_content or not _goes_on_at(response, part.size):
            part.start(_strong_validator(response))
        progress.total = _whole_size(response, part.size) or source.size
        if source.size and progress.total != source.size:
            part.remove()
            raise DownloadError(f"{source.url} has {progress.total} bytes, expected {source.size}: it was replaced.")
        check_disk_space(part.path.parent, (progress.total or 0) - part.size)
        progress.start_at(part.size)
        _append(response, part, progress)


def _append(response: requests.Response, part: _Part, progress: Progress) -> None:
    with naming(part.path), part.path.open("ab") as file:
        try:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                progress.advance(len(chunk))
        except requests.exceptions.SSLError as error:  # a connection that breaks in the middle is no bad certificate
            raise requests.ConnectionError(str(error)) from error
    if progress.done < (progress.total or 0):
        raise requests.ConnectionError("the server closed the connection too early")


def _check_status(response: requests.Response, source: Source) -> None:
    if response.status_code == requests.codes.too_many_requests or response.status_code >= 500:
        raise requests.ConnectionError(f"the server answers {response.status_code} {response.reason}")
    if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
        raise DownloadError(
            f"{source.url} answers {response.status_code} {response.reason}: fetch the file elsewhere and give its "
            "folder as --raw_dir (videos, pictures) or --ann_dir (lists)."
        )


def _goes_on_at(response: requests.Response, start: int) -> bool:
    """True if the answer begins with byte `start`; any other beginning raises a ConnectionError."""
    if response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return True
    raise requests.ConnectionError("the server sent another range than the one asked for")


def _strong_validator(response: requests.Response) -> str:
    """Strong ETag, or else the date: If-Range forbids weak ETags."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _whole_size(response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return int(length) + start if length else None


def _check_hash(path: Path, source: Source, *, advice: str) -> None:
    if source.sha256:
        kind, digest, expected = "SHA-256", sha256(path), source.sha256
    else:
        with path.open("rb") as file:
            kind, digest, expected = "MD5", hashlib.file_digest(file, "md5").hexdigest(), source.md5
    if digest != expected.lower():
        raise DownloadError(f"{path} has {kind} {digest}, expected {expected}: {advice}.")


def _reason(error: Exception) -> str:
    """The innermost cause, without the wrappings of requests and urllib3."""
    while error.args and isinstance(inner := getattr(error.args[0], "reason", error.args[0]), Exception):
        error = inner
    return str(error.args[0] if error.args else error)


def main(argv: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("url")
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--out_dir", type=Path, default=Path("data/downloads"))
    args = parser.parse_args(argv)
    with owned(args.out_dir):
        print(download(Source(args.url, args.sha256), args.out_dir))


if __name__ == "__main__":
    run_command(main)
