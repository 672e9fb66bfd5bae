"""Made-up archives in the form of the official binary ones."""

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class MadeUp:
    """Random pictures of a small CIFAR-10 or, with `hundred`, CIFAR-100; `records` has (label, pixels) by file."""

    hundred: bool = False
    per_batch: int = 6
    classes: tuple[str, ...] = ("zebra", "ant", "cat")  # not in alphabetical order: the file has the order of labels
    records: dict[str, list[tuple[int, np.ndarray]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        batches = [f"data_batch_{number}" for number in range(1, 6)]
        for name in ("train", "test") if self.hundred else (*batches, "test_batch"):
            self.records[f"{name}.bin"] = [
                (number % len(self.classes), rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                for number in range(self.per_batch)
            ]

    def files(self) -> dict[str, bytes]:
        names = "".join(f"{name}\n" for name in self.classes).encode()
        texts = {"fine_label_names.txt": names, "coarse_label_names.txt": b"all\n"}
        files = texts if self.hundred else {"batches.meta.txt": names + b"\n"}
        for name, records in self.records.items():
            # Every coarse label is 7, which no class has: it must not be taken.
            files[name] = b"".join(
                bytes([7, label] if self.hundred else [label]) + pixels.transpose(2, 0, 1).tobytes()
                for label, pixels in records
            )
        return files

    def archive(self) -> bytes:
        """The .tar.gz."""
        folder = "cifar-100-binary" if self.hundred else "cifar-10-batches-bin"
        return make_tar({f"{folder}/{name}": content for name, content in self.files().items()})

    def write(self, folder: Path) -> Path:
        """Write the archive under its official name."""
        path = folder / f"cifar-{'100' if self.hundred else '10'}-binary.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.archive())
        return path


def make_tar(files: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A .tar.gz of files, and of other members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in others:
            tar.addfile(member)
    return buffer.getvalue()
