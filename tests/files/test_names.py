import pytest

from fedvssl.files.names import MOST_BYTES, check_name, shown

OUTSIDE = (
    *("..", "../v", "a/../v", "a/..", "/v", "/", "//host/v", "..\\v", "a\\..\\v", "\\v"),
    *("C:", "c:v", "D:\\v", "a/z:v"),
)
CONTROL = ("a\0", "a\n/v", "\x1b[2J", "a\x7f", "a\x85", "a\u2028b", "a\ud800")
NO_NAME = (".", "a/.", "./a", "a//b", "a/", "a/...", "a/. /b", " ", "a/ ")
DEVICES = ("CON", "nul/v", "a/Aux.zip", "com1", "a/LPT\u00b3.x", "PRN ", "conin$")
LONG = ("a/" + "v" * (MOST_BYTES + 1), "\u8d70" * 81, "a/" * 500 + "a")
ODD = (
    *("Archery/v_Archery_g01_c01", "a..b", "..a/b..", ".hidden", "-v", "#1", "a (1)", "100%", "it's", 'say "v"', "~"),
    *("$a", "gr\u00fc\u00df", "\u8d70\u308b/e\u0301", "ab:c", "12:30", "a/b/c/d", "v" * MOST_BYTES, "\u8d70" * 80),
    *("con1", "console", "com", "com10", "lpt", "a.con", "nulls"),
)
FAULTS = {
    "is empty: give one": ("",),
    "leads outside the folder: name a file inside it": OUTSIDE,
    "holds a control character or half a character": CONTROL,
    "holds a backslash: write / between folders": ("a\\v",),
    "which is no name: take it out": NO_NAME,
    "a device of Windows: rename it": DEVICES,
    "is too long: at most 240 bytes for a part": LONG,
}


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for fault, names in FAULTS.items() for name in names])
def test_hostile_names_are_rejected_in_one_sentence(name: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as error:
        check_name(name, where="train.txt, line 3")
    assert str(error.value).startswith("train.txt, line 3: the name ") and str(error.value).isprintable()


@pytest.mark.parametrize("name", ODD)
def test_odd_names_stay_as_they_are(name: str) -> None:
    assert check_name(name, where="x") == name


def test_long_names_are_shortened_in_messages() -> None:
    assert shown("v" * 5000) == "'" + "v" * 80 + "...'"
