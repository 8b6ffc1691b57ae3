import pytest

from bridge.text import (
    bare_filename,
    clip,
    did_you_mean,
    hider,
    nearest,
    one_line,
    plain_problem,
    printable,
    problem_of,
    quoted,
    without_colours,
    without_folders,
)


def test_a_text_that_fits_stays_and_a_longer_one_says_that_it_was_cut() -> None:
    assert clip("12345", 5) == "12345"
    assert clip("123456", 5) == "12..."
    assert clip("123456", 5, "…") == "1234…"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a b.png", "a b.png"),
        ("../../etc/passwd", "passwd"),
        ("/root/.bashrc", ".bashrc"),
        ("C:\\Windows\\win.ini", "win.ini"),
        ("a\0\r\nb\u202egpj.exe", "a   b gpj.exe"),
        ("雪.png", "雪.png"),
        ("", None),
        ("..", None),
        ("a/", None),
        (" \0", None),
    ],
)
def test_the_last_part_of_a_path_leads_out_of_no_folder(path: str, name: str | None) -> None:
    assert bare_filename(path) == name


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", "ValueError"),
        ("no\nroute", "no route"),
        ("404, url='http://a.b:1/x?sig=S&t='", "404, url='http://a.b:1/x'"),
        ("(https://u:S@a.b/x#S) - why", "(https://***@a.b/x) - why"),
        ("S3://a/x?'S'S and wss://a/?S", "S3://a/x and wss://a/"),
        ("https://a.b/x?as=me@c.d/e&sig=S", "https://a.b/x"),
        ("https://a.b:1/x?as=me@c.d/e&sig=S", "https://***@c.d/e"),
        ("https://a.b/@c/x?sig=S", "https://a.b/@c/x"),
        ("mqtt://me:12/S@a.b", "mqtt://***@a.b"),
        ("x" * 999, "x" * 297 + "..."),
    ],
)
def test_a_problem_is_shown_without_what_its_urls_keep_secret(said: str, shown: str) -> None:
    assert problem_of(ValueError(said)) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("a", "'a'"),
        ("x" * 99, f"'{'x' * 57}...'"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (b"\x89PNG", "bytes"),
        (object(), "something else"),
    ],
)
def test_a_value_is_named_as_json_calls_it(value: object, shown: str) -> None:
    assert quoted(value) == shown


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
        ("~/models/x.png or ~me/b/x.png", ".../x.png or .../x.png"),
        ("'~/my models/x.png'", "'.../x.png'"),
        ("file:///home/me/a.png", ".../a.png"),
        (r"'C:\\Users\\me\\a.png'", "'.../a.png'"),
        ("don't / do", None),
        ("", None),
    ],
)
def test_files_are_named_without_their_folders(text: str, shown: str | None) -> None:
    assert without_folders(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        ("Expected `int`, got `str`", "expected a whole number"),
        ("Expected `int` >= 1", "expected a whole number of at least 1"),
        ("Expected `float` > 0.0", "expected a number above 0"),
        ("Expected `str | null`, got `array`", "expected text"),
        ("Expected `str` of length >= 1", "expected text of at least 1 character"),
        ("Expected `str` of length >= 8", "expected text of at least 8 characters"),
        ("Expected `bool`, got `str` - at `$.a`", "a: expected true or false"),
        ("Expected `object`, got `array`", "expected an object"),
        ("Expected `array`, got `str` - at `$[...].workflows`", "workflows: expected a list"),
        ("Object contains unknown field `x` - at `$[0]`", "[0]: unknown field 'x'"),
        ("Object missing required field `x`", "'x' is missing"),
    ],
)
def test_a_wrong_value_is_reported_without_names_of_types(problem: str, told: str) -> None:
    assert plain_problem(problem) == told


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("hunter2", "no, hunter2 is wrong", "no, *** is wrong"),
        ("mqtt", "mqtt://mqtt:mqtt@host: mqtt_url", "mqtt://mqtt:***@host: mqtt_url"),
        ("y", "cannot start yet: password='y'", "cannot start yet: password='***'"),
        ("1234", "port 1234, Token: 1234", "port 1234, Token: ***"),
        ("comfy2mqtt", "the topic comfy2mqtt/#, :comfy2mqtt@h", "the topic comfy2mqtt/#, :***@h"),
        ("a.b(c)", "a.b(c) but not aXb(c)", "a.b(c) but not aXb(c)".replace("a.b(c)", "***")),
        ("ab1!", "password='ab1!', ab1!", "password='***', ab1!"),
        ("y", '{\\"password\\": \\"y\\"}', '{\\"password\\": \\"***\\"}'),
        (
            "y",
            "Authorization: Bearer y, pwd=y pass y",
            "Authorization: Bearer ***, pwd=*** pass ***",
        ),
        ('hun"ter\\2', r'{"a": "hun\"ter\\2"}', '{"a": "***"}'),
        ("", "nothing", "nothing"),
    ],
)
def test_a_secret_is_hidden_and_the_line_can_be_read(secret: str, text: str, shown: str) -> None:
    assert hider([secret, "never-there"])(text) == shown


def test_the_word_that_was_most_likely_meant_is_offered() -> None:
    assert did_you_mean("promt", ["prompt", "steps"]) == "; did you mean 'prompt'?"
    assert did_you_mean("MQTT_ULR", ["mqtt_url", "mqtt_ca"]) == "; did you mean 'mqtt_url'?"
    assert did_you_mean("xyz", ["prompt", "steps"]) == ""
    # Anybody may send a long word: it is compared with nothing.
    assert did_you_mean("prompt" * 20, ["prompt" * 20]) == ""


def test_the_words_that_are_like_another_are_those_that_contain_it_or_resemble_it() -> None:
    models = ["sdxl/base_1.0", "sdxl/refiner_1.0", "flux/dev", "SDXL-Turbo"]
    assert nearest("sdxl", models, 9) == ["sdxl/base_1.0", "sdxl/refiner_1.0", "SDXL-Turbo"]
    assert nearest("sdxl", models, 2) == ["sdxl/base_1.0", "sdxl/refiner_1.0"]
    assert nearest("refiner sdxl", models, 9) == ["sdxl/refiner_1.0"]
    assert nearest("flux/dve", models, 9) == ["flux/dev"]
    for nothing in ("", "...", "wan", "sdxl" * 99):
        assert nearest(nothing, models, 9) == []
    # Of very many none is compared letter by letter: others wait meanwhile.
    many = [f"model{number}" for number in range(2000)]
    assert nearest("modle7", many, 9) == []
    assert nearest("l1999", many, 9) == ["model1999"]


def test_paths_in_a_long_text_take_no_time() -> None:
    assert without_folders("/a" * 100_000).endswith("/a")
    assert without_folders("'/a" * 100_000).endswith("a")
    assert without_folders("/" * 100_000)


def test_colours_are_left_out_and_all_else_stays() -> None:
    coloured = "\x1b[1;31mred\x1b[0m \x1b]8;;http://a\x07link\x1b]8;;\x1b\\ \x9b32mgreen\x1b(B end"
    assert without_colours(coloured) == "red link green end"
    assert without_colours("[31m is no colour") == "[31m is no colour"
    assert without_colours("cut \x1b[3") == "cut 3"
