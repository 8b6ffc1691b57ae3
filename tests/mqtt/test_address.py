import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mqtt import Address, BadAddress

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def test_a_url_gives_host_port_and_credentials() -> None:
    address = Address.parse("mqtt://alice:secret@broker.local:1884")
    assert (address.host, address.port) == ("broker.local", 1884)
    assert (address.username, address.password) == ("alice", "secret")
    assert not address.tls


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [
        ("mqtt://host", 1883, False),
        ("mqtts://host", 8883, True),
        ("mqtt://host:", 1883, False),
        ("mqtt://host/", 1883, False),
        ("MQTT://host:65535", 65535, False),
        ("host", 1883, False),
        ("host:1884", 1884, False),
        ("user:secret@host", 1883, False),
        ("tcp://host", 1883, False),
        ("ssl://host", 8883, True),
        ("tls://host:8884", 8884, True),
        ("ws://host", 80, False),
        ("wss://host", 443, True),
        ("ws://host:9001", 9001, False),
    ],
)
def test_the_port_follows_from_the_scheme_unless_given(url: str, port: int, tls: bool) -> None:  # noqa: FBT001 - a column of the table
    address = Address.parse(url)
    assert (address.port, address.tls) == (port, tls)


@pytest.mark.parametrize(
    ("url", "path", "shown"),
    [
        ("ws://alice:p@host", "/mqtt", "ws://alice:***@host:80/mqtt"),
        ("wss://host/", "/", "wss://host:443/"),
        ("wss://host/ws/a?token=hunter2", "/ws/a?token=hunter2", "wss://host:443/ws/a"),
        ("mqtt://host", None, "mqtt://host:1883"),
    ],
)
def test_a_websocket_has_a_path_whose_query_is_not_shown(
    url: str, path: str | None, shown: str
) -> None:
    address = Address.parse(url)
    assert address.path == path
    assert str(address) == shown


def test_an_ipv6_address_stands_in_brackets() -> None:
    address = Address.parse("mqtt://u:p@[::1]:1884")
    assert (address.host, address.port) == ("::1", 1884)
    assert str(address) == "mqtt://u:***@[::1]:1884"


@given(TEXT, TEXT)
def test_percent_encoding_carries_any_user_name_and_password(user: str, password: str) -> None:
    url = f"mqtt://{quote(user, safe='')}:{quote(password, safe='')}@host"
    address = Address.parse(url)
    assert (address.username, address.password) == (user, password)


def test_neither_repr_nor_str_shows_the_password() -> None:
    address = Address.parse("mqtt://alice:hunter2@host")
    assert "hunter2" not in repr(address) + str(address) + f"{address}"
    assert str(address) == "mqtt://alice:***@host:1883"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "host is missing"),
        ("ws://u:hunter2/x@host", "%2F"),
        ("ws://u:1/hunter2@host", "%2F"),
        ("ws://u:hunter2#x@host", "%23"),
        ("ws://host/b\u00fccher", "percent-encoded"),
        ("ws://host/a b", "percent-encoded"),
        ("http://host", "scheme"),
        ("mqtt://", "host is missing"),
        ("mqtt://:1883", "host is missing"),
        ("mqtt://[::1", "host is not valid"),
        ("mqtt://host:0", "1 to 65535"),
        ("mqtt://host:65536", "1 to 65535"),
        ("mqtt://host:99999999999999999999", "1 to 65535"),
        ("mqtt://host:mqtt", "1 to 65535"),
        ("mqtt://host:\u0661", "1 to 65535"),
        ("mqtt://host/topic", "nothing may follow"),
        ("mqtt://host?x=1", "nothing may follow"),
        ("mqtt://:hunter2@host", "needs a user name"),
        ("mqtt://u:hunter2%ff@host", "UTF-8"),
        ("mqtt://u:hunter2%00@host", "NUL"),
        # A password with characters that should have been encoded.
        ("mqtt://u:hunter2/x@host", "%2F"),
        ("mqtt://u:hunter2#x@host", "%23"),
        ("mqtt://u:hunter2?x@host", "%3F"),
        ("mqtt://u:p[hunter2@host", "host is not valid"),
    ],
)
def test_an_error_names_what_is_wrong_and_never_the_password(url: str, words: str) -> None:
    with pytest.raises(BadAddress) as caught:
        Address.parse(url)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__)


@given(st.text())
def test_garbage_raises_only_bad_address(text: str) -> None:
    for url in (text, f"mqtt://{text}", f"ws://{text}"):
        try:
            Address.parse(url)
        except BadAddress:
            continue


def test_certificates_need_tls() -> None:
    with pytest.raises(BadAddress, match="mqtts"):
        Address.parse("mqtt://host", ca=Path("ca.pem"))
    with pytest.raises(BadAddress, match="wss"):
        Address.parse("ws://host", ca=Path("ca.pem"))


def test_a_key_needs_its_certificate() -> None:
    with pytest.raises(BadAddress, match="certificate"):
        Address.parse("mqtts://host", key=Path("key.pem"))


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(BadAddress, match=r"missing\.pem"):
        Address.parse("mqtts://host", ca=missing).ssl_context()
    with pytest.raises(BadAddress, match=r"missing\.pem"):
        Address.parse("mqtts://host", cert=missing).ssl_context()


def test_without_tls_there_is_no_ssl_context() -> None:
    assert Address.parse("mqtt://host").ssl_context() is None


def test_the_password_may_be_a_files_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2 \r\nnot this\n")
    found = Address.parse("mqtt://alice@host", password_file=file)
    assert (found.password, found.password_now()) == ("hunter2 ", "hunter2 ")
    file.write_text("another")
    assert found.password_now() == "another"


def test_a_file_that_gives_no_password_any_more_does_not_take_it_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2")
    found = Address.parse("mqtt://alice@host", password_file=file)
    file.write_text("")
    assert found.password_now() == "hunter2"
    file.unlink()
    assert found.password_now() == "hunter2"
    assert "cannot be read" in caplog.text
    os.mkfifo(file)  # to read it would wait for a writer
    assert found.password_now() == "hunter2"


@pytest.mark.parametrize(
    ("url", "content", "words"),
    [
        ("mqtt://alice:x@host", b"hunter2", "one of them"),
        ("mqtt://host", b"hunter2", "user name before"),
        ("mqtt://alice@host", b"hunter2\xff", "not UTF-8"),
        ("mqtt://alice@host", None, "No such file"),
    ],
)
def test_a_password_file_that_is_of_no_use_says_why(
    tmp_path: Path, url: str, content: bytes | None, words: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadAddress, match=words) as caught:
        Address.parse(url, password_file=file)
    assert "hunter2" not in str(caught.value)
