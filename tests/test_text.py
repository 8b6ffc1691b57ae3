import pytest

from bridge.text import clip, one_line, printable, without_folders


def test_a_text_that_fits_stays_and_a_longer_one_says_that_it_was_cut() -> None:
    assert clip("12345", 5) == "12345"
    assert clip("123456", 5) == "12..."
    assert clip("123456", 5, "…") == "1234…"


def test_white_space_of_all_kinds_is_one_space() -> None:
    assert one_line(" a\r\n\tb  c ") == "a b c"


def test_what_steers_a_terminal_is_left_out() -> None:
    assert printable("a\x1b[2Jb\u202ec") == "a [2Jb c"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no /opt/ComfyUI/models/a.ckpt here", "no .../a.ckpt here"),
        ('File "/home/ada lovelace/x.py", line 3', 'File ".../x.py", line 3'),
        ("[Errno 2] No such file: '/data/x/'", "[Errno 2] No such file: '.../x'"),
        (r"C:\Users\ada\x.py:3", ".../x.py:3"),
        (r"\\server\share\x", ".../x"),
        ("(/a/b), /c/d; e=/f/g", "(.../b), .../d; e=.../g"),
        ("http://host/a/b?c=/d/e", None),
        ("image/png, and/or, /hello, a/b/c, 1 / 2 / 3, comfy2mqtt/client/+/#", None),
        ("models/checkpoints/a.ckpt", None),
        ("", None),
    ],
)
def test_files_are_named_without_their_folders(text: str, shown: str | None) -> None:
    assert without_folders(text) == (text if shown is None else shown)
