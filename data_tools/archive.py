"""Safe reading of archives from the network: unpacked whole or not at all, and nothing outside the folder.

Archives inside become folders of their names: HMDB-51 is distributed as an archive of one archive per class.
"""

import gzip
import lzma
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fedvssl.files.names import check_name
from fedvssl.files.progress import Progress, show_bytes

from .download import check_disk_space

SUFFIXES = (".rar", ".zip")
TOO_LARGE = (OverflowError, MemoryError)
TAR_DAMAGE = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, *TOO_LARGE)
# RuntimeError, NotImplementedError among them: encrypted, or packed in a way that Python does not know.
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    zlib.error,
    struct.error,
    lzma.LZMAError,
    OverflowError,
    MemoryError,
)
RAR_TOOLS = {  # command -> its arguments, with which it overwrites and asks nothing
    "unrar": lambda archive, folder: ["x", "-o+", "-y", "-idq", "--", str(archive), f"{folder}/"],
    "7z": lambda archive, folder: ["x", "-y", "-bd", f"-o{folder}", "--", str(archive)],
}


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a .zip, .rar or .tar.gz into `folder`, which exists afterwards only if everything went well.

    Returns:
        `folder`, untouched if it was there before.

    Raises:
        ValueError: if the archive is damaged or encrypted, leads outside, holds a link or a device, does not fit on the
            disk, or no program unpacks its .rar.
    """
    if folder.is_dir():
        return folder
    temporary = folder.with_name(f"{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _unpack(archive, temporary)
        while inner := _first_archive(temporary):
            target = inner.with_suffix("")
            target.mkdir(exist_ok=True)
            _unpack(inner, target)
            inner.unlink()
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def holds_files(archive: Path, files: Iterable[Path]) -> bool:
    """True if a .tar.gz, which is read and not unpacked, holds all these files: their names in any folder, their bytes.

    Raises:
        ValueError: if the archive is damaged.
    """
    missing = {file.name: file for file in files}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                file = missing.get(PurePosixPath(entry.name).name)
                if file and entry.isreg() and entry.size == file.stat().st_size:
                    content = tar.extractfile(entry)
                    if content and content.read() == file.read_bytes():
                        del missing[file.name]
    except TAR_DAMAGE as error:
        raise ValueError(f"{archive} is damaged: delete it and fetch it again.") from error
    return not missing


def rar_tool() -> str:
    """Name of the program that unpacks .rar files.

    Raises:
        ValueError: if there is none.
    """
    for tool in RAR_TOOLS:
        if shutil.which(tool):
            return tool
    raise ValueError("A .rar needs unrar or 7z: install one of them (Debian, Ubuntu: apt install unrar, or 7zip).")


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix.lower() == ".rar":
        _unpack_rar(archive, folder)
    elif archive.suffix.lower() == ".gz":
        _unpack_tar(archive, folder)
    else:
        _unpack_zip(archive, folder)


def _first_archive(folder: Path) -> Path | None:
    # Names with a leading dot are left out: macOS puts such files beside the files it copies.
    found = (path for path in sorted(folder.rglob("[!.]*")) if path.suffix.lower() in SUFFIXES)
    return next((path for path in found if path.is_file()), None)


def zip_entries(archive: Path) -> list[zipfile.ZipInfo]:
    """Files and folders in a zip, which is read without unpacking it.

    Raises:
        ValueError: if the zip is damaged or encrypted, or holds a bad name, a link or a device.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            entries = _checked_entries(file, archive)
    except ZIP_DAMAGE as error:
        raise ValueError(f"{archive} is damaged: delete it and fetch it again.") from error
    return entries


def _checked_entries(file: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    for entry in file.infolist():
        _check_entry(entry.orig_filename, entry.external_attr >> 16, archive)
        if entry.flag_bits & 1:
            raise ValueError(f"{archive} is encrypted: unpack it by hand.")
    return file.infolist()


def _unpack_zip(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            entries = _checked_entries(file, archive)
            if any(entry.filename.lower().endswith(".rar") for entry in entries):
                rar_tool()  # before gigabytes are unpacked in vain
            size = sum(entry.file_size for entry in entries)
            check_disk_space(folder, size)
            with Progress(f"unpacking {archive.name}", size, show=show_bytes) as progress:
                for entry in entries:
                    file.extract(entry, folder)
                    progress.advance(entry.file_size)
    except ZIP_DAMAGE as error:
        raise ValueError(f"{archive} is damaged: delete it and fetch it again.") from error


def _unpack_tar(archive: Path, folder: Path) -> None:
    try:
        with gzip.open(archive) as whole:  # tarfile stops before the checksum at the end
            while whole.read(1 << 20):
                pass
        with tarfile.open(archive, "r:gz") as file:
            entries = file.getmembers()
            for entry in entries:
                _check_entry(f"{entry.name}/" if entry.isdir() else entry.name, _mode(entry), archive)
            check_disk_space(folder, sum(entry.size for entry in entries))
            for entry in entries:
                file.extract(entry, folder, filter="data")
    except TAR_DAMAGE as error:
        raise ValueError(f"{archive} is damaged: delete it and fetch it again.") from error


def _mode(entry: tarfile.TarInfo) -> int:
    """Kind of a member as Unix has it."""
    if entry.issym() or entry.islnk():
        return stat.S_IFLNK
    return stat.S_IFREG if entry.isreg() else stat.S_IFDIR if entry.isdir() else stat.S_IFCHR


def _unpack_rar(archive: Path, folder: Path) -> None:
    tool = rar_tool()
    check_disk_space(folder, archive.stat().st_size)
    result = subprocess.run(
        [tool, *RAR_TOOLS[tool](archive.absolute(), folder.absolute())], capture_output=True, text=True, check=False
    )
    if result.returncode:
        lines = (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()
        raise ValueError(f"{tool} could not unpack {archive} ({lines[-1]}): delete it and fetch it again.")
    for path in folder.rglob("*"):
        found = path.lstat()
        hard_link = stat.S_IFLNK if stat.S_ISREG(found.st_mode) and found.st_nlink > 1 else 0
        _check_entry(path.relative_to(folder).as_posix(), hard_link or found.st_mode, archive)


def _check_entry(name: str, mode: int, archive: Path) -> None:
    """Reject names that are not inside the folder, and all that is no plain file or folder by its Unix mode, if any."""
    inside = PurePosixPath(name).as_posix() if name else ""  # "./a//b/" is a/b; it keeps ".."
    if (inside, name[-1:]) != (".", "/"):  # the folder itself
        check_name(inside, where=archive)
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "link" if kind == stat.S_IFLNK else "device"
        raise ValueError(f"{archive} holds the {what} {name}, which may lead outside: unpack it by hand.")
