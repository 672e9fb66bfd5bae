"""Places in this package."""

from pathlib import Path


def conf_dir() -> Path:
    """Folder of the YAML files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
