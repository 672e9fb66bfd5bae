import codecs
from pathlib import Path

import pytest

from fedvssl.files import text
from fedvssl.files.text import read_json_text, read_text

LINES = "Archery/grüß_走る.avi 1\nBiking/b.avi 2\n"


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_what_windows_writes_is_read(tmp_path: Path, encoding: str, mark: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes((mark + LINES).replace("\n", "\r\n").encode(encoding))
    assert read_text(path) == LINES


def test_another_encoding_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("grüß 1".encode("cp1252"))
    assert read_text(path) == "grüß 1"
    assert f"{path} is not in UTF-8 and is read as Windows-1252" in caplog.text


def test_ends_of_lines_and_marks_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    for written, wanted in (
        (b"a 1\rb 2\r", "a 1\nb 2\n"),
        (b"a\rb 1\n", "a\rb 1\n"),
        (b"a\0b 1\n", "a\0b 1\n"),
        (b"a\n\xef\xbb\xbfb\n", "a\nb\n"),
    ):
        path.write_bytes(written)
        assert read_text(path) == wanted


def test_what_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.txt"
    for data, words in (
        (b"\x89PNG\x81\x8d", "is no text in CP1252: save it as UTF-8"),
        (codecs.BOM_UTF16_LE + b"a", "is no text in UTF-16"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"list\.txt {words}"):
            read_text(path)
    with pytest.raises(ValueError, match="There is no file"):
        read_text(tmp_path)
    monkeypatch.setattr(text, "MOST_BYTES", 2)
    with pytest.raises(ValueError, match=r"list\.txt is larger than 0 MB"):
        read_text(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[\n{"a": 1,}]', r"the mistake is in line 2, column \d"),
        ("[" * 100_000, "lie too deep"),
        ("9" * 5000, "numbers are too long"),
        ('{"id": 1, "id": 2}', "the key 'id' comes twice"),
    ],
)
def test_damaged_json_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"a\.json cannot be read as JSON, .*{words}.*: mend it or write it again\.$"):
        read_json_text(path)


def test_json_may_have_a_mark_and_say_a_thing_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\ufeff{"id": [1], "id": [1]}')
    assert read_json_text(path) == {"id": [1]}
