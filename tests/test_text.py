from bridge.text import clip, one_line, printable


def test_a_text_that_fits_stays_and_a_longer_one_says_that_it_was_cut() -> None:
    assert clip("12345", 5) == "12345"
    assert clip("123456", 5) == "12..."
    assert clip("123456", 5, "…") == "1234…"


def test_white_space_of_all_kinds_is_one_space() -> None:
    assert one_line(" a\r\n\tb  c ") == "a b c"


def test_what_steers_a_terminal_is_left_out() -> None:
    assert printable("a\x1b[2Jb\u202ec") == "a [2Jb c"
