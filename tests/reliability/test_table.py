"""The page shows the stored rows."""

from pathlib import Path

from tests.reliability.table import PAGE, Row, store, table


def test_page_shows_the_stored_rows():
    assert table() in PAGE.read_text(encoding="utf-8")


def test_rows_of_a_script_are_replaced_and_others_stay(tmp_path: Path):
    path = tmp_path / "seen.json"
    row = Row("disk | full", "a small disk", "one sentence", "a sentence", 1200)
    store("kills", [row], path=path)
    store("fuzz", [row, row], path=path)
    store("kills", [], path=path)
    lines = table(path).splitlines()
    assert lines[2:] == ["| disk / full | a small disk | one sentence | a sentence | 1,200 |"] * 2
