"""Addresses: every form is read, every mistake is explained, no secret is repeated."""

import os
import string
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomanager.protocol.address import MAX_UNIX_PATH, Address, is_loopback, parse_address


def unix(path: str) -> Address:
    return Address("unix", path=path)


def tcp(host: str, port: int) -> Address:
    return Address("tcp", host=host, port=port)


@pytest.mark.parametrize(
    ("value", "address", "url"),
    [
        ("unix:///run/app.sock", unix("/run/app.sock"), "unix:///run/app.sock"),
        ("UNIX:///run/app.sock", unix("/run/app.sock"), "unix:///run/app.sock"),
        ("/run/app.sock", unix("/run/app.sock"), "unix:///run/app.sock"),
        (b"/run/app.sock", unix("/run/app.sock"), "unix:///run/app.sock"),
        (PurePosixPath("/run/app.sock"), unix("/run/app.sock"), "unix:///run/app.sock"),
        ("unix:////two", unix("//two"), "unix:////two"),
        ("unix:///a%20b%2Fc", unix("/a b/c"), "unix:///a%20b/c"),
        ("/a b%?#é", unix("/a b%?#é"), "unix:///a%20b%25%3F%23%C3%A9"),
        ("unix:///me@home:1", unix("/me@home:1"), "unix:///me@home:1"),
        ("unix:///é", unix("/é"), "unix:///%C3%A9"),
        (b"/\xff", unix("/\udcff"), "unix:///%FF"),
        ("unix:///%ff", unix("/\udcff"), "unix:///%FF"),
        ("/\udcc3\udca9", unix("/é"), "unix:///%C3%A9"),
        ("/new\nline", unix("/new\nline"), "unix:///new%0Aline"),
        ("\0name/", unix("\0name/"), "unix://%00name/"),
        (b"\0a b\xff", unix("\0a b\udcff"), "unix://%00a%20b%FF"),
        ("unix://%00name", unix("\0name"), "unix://%00name"),
        ("tcp://localhost:5000", tcp("localhost", 5000), "tcp://localhost:5000"),
        ("TCP://Example.org:05000/", tcp("Example.org", 5000), "tcp://Example.org:5000"),
        ("tcp://my_service-1:0", tcp("my_service-1", 0), "tcp://my_service-1:0"),
        ("tcp://[::1]:5000", tcp("::1", 5000), "tcp://[::1]:5000"),
        ("tcp://[fe80::1%25eth0]:1", tcp("fe80::1%eth0", 1), "tcp://[fe80::1%25eth0]:1"),
        ("tcp://[fe80::1%eth0]:1", tcp("fe80::1%eth0", 1), "tcp://[fe80::1%25eth0]:1"),
        ("tls://example.org:65535", Address("tls", "", "example.org", 65535), None),
        (("127.0.0.1", 5000), tcp("127.0.0.1", 5000), "tcp://127.0.0.1:5000"),
        (("::1", 5000), tcp("::1", 5000), "tcp://[::1]:5000"),
        (("", 50000), tcp("0.0.0.0", 50000), "tcp://0.0.0.0:50000"),
    ],
)
def test_forms(value: Any, address: Address, url: str | None) -> None:
    assert parse_address(value) == address
    assert address.url == (url or value)
    assert parse_address(address.url) == address
    assert parse_address(address) == address


SECRET = "hunter2"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is no address: write unix:///path, tcp://"),
        ("relative/path", "begins with '/'"),
        ("unix:/run/app.sock", "write unix:///path"),
        ("localhost:5000", "write tcp:// in front"),
        ("redis://localhost:6379", "scheme of 'redis://localhost:6379' is unknown"),
        ("://x", "unknown"),
        (r"\\.\pipe\name", "no address"),
        ("unix://run/app.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///", "directory"),
        ("/run/", "directory"),
        ("unix:///a?b", "no query.*%3F"),
        ("unix:///a#b", "no fragment.*%23"),
        ("unix:///a b", "%20"),
        ("unix:///a\n", "control"),
        ("unix:///%", "%25"),
        ("unix:///%4", "%25"),
        ("unix:///%zz", "%25"),
        ("unix:///%+1", "%25"),
        ("unix:///a%00b", "NUL"),
        ("/a\0b", "NUL"),
        ("\0", "NUL"),
        ("\0a\0b", "NUL"),
        ("unix://%00", "NUL"),
        ("\0" + "x" * MAX_UNIX_PATH, "108 bytes"),
        ("unix:///\udcff\ud800", "no valid text"),
        ("/" + "x" * MAX_UNIX_PATH, "108 bytes.*107.*shorter"),
        ("/" + "é" * 54, "109 bytes"),
        (PurePosixPath("app.sock"), "relative.*root"),
        ("tcp://localhost", "lacks a port: write tcp://localhost:5000"),
        ("tcp://localhost:", "lacks a port: write tcp://localhost:5000"),
        ("tcp://[::1]", r"lacks a port: write tcp://\[::1\]:5000"),
        ("tcp://[::1]:", "lacks a port"),
        ("tcp://", "lacks a host"),
        ("tcp://:5000", "lacks a host: write 127.0.0.1"),
        ("tcp://h:65536", "65536 is not one of 0 to 65535"),
        ("tcp://h:123456", "0 to 65535"),
        ("tcp://h:-1", "0 to 65535"),
        ("tcp://h:http", "0 to 65535"),
        ("tcp://h:\u0661", "0 to 65535"),
        ("tcp://h:1_0", "0 to 65535"),
        ("tcp://h:1/path", "has a path"),
        ("tcp://h:1?x=1", "no query"),
        ("tcp://h:1#x", "no fragment"),
        ("tcp://h h:1", "spaces"),
        ("tcp://::1:5000", r"IPv6 address in brackets"),
        ("tcp://[::1:5000", "lacks the ']'"),
        ("tcp://[::1]5000", "between"),
        ("tcp://[localhost]:1", "no IPv6"),
        ("tcp://[]:1", "no IPv6"),
        ("tcp://[:::]:1", "no IPv6 address"),
        ("tcp://[fe80::1%25]:1", "no host"),
        ("tcp://é.example:1", "xn--"),
        ("tcp://a%20b:1", "no host"),
        (("é", 1), "xn--"),
        (("a b", 1), "no host"),
        (("h", 65536), "0 to 65535"),
        (("h", -1), "0 to 65535"),
        (("::1", 5000, 0, 0), "pair"),
        ((), "pair"),
        (Address("ftp", host="h", port=1), "unknown"),
        (Address("unix", path="relative"), "relative"),
        (Address("tcp", host="", port=1), "no host"),
    ],
)
def test_mistakes_are_explained(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_address(value)


@pytest.mark.parametrize("value", [None, 5, ["h", 1], ("h", True), ("h", "1"), (b"h", 1), {}, 1.5])
def test_what_is_no_address_at_all(value: Any) -> None:
    with pytest.raises(TypeError, match="an address is"):
        parse_address(value)


@pytest.mark.parametrize(
    "value",
    [
        f"tcp://user:{SECRET}@h:1",
        f"tcp://{SECRET}@h",
        f"tls://:{SECRET}@:x",
        f"redis://:{SECRET}@h:1/0",
        f"tcp://h:1?authkey={SECRET}",
        f"redis://h:1?authkey={SECRET}",
        f"http://h:1/#{SECRET}",
        f"user:{SECRET}@h:1",
        f"unix://user:{SECRET}@/run/app.sock",
        f"unix:///run/app.sock?authkey={SECRET}",
    ],
)
def test_secrets_are_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_address(value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_reason_for_refusing_userinfo() -> None:
    with pytest.raises(ValueError, match=r"a URL holds no secret.*authkey="):
        parse_address("tcp://user:password@h:1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/run/app.sock", True),
        ("tcp://localhost:1", True),
        ("tcp://LocalHost:1", True),
        ("tls://127.0.0.1:1", True),
        ("tcp://127.255.255.254:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://[0:0:0:0:0:0:0:1]:1", True),
        ("tcp://[::ffff:127.0.0.1]:1", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://128.0.0.1:1", False),
        ("tcp://127.0.0.1.example.org:1", False),
        ("tcp://localhost.example.org:1", False),
        ("tcp://127.1:1", False),  # other tools may read it as 127.0.0.1, or may not
        ("tcp://2130706433:1", False),
        ("tcp://127.0.0.01:1", False),
        ("tcp://[fe80::1%25lo]:1", False),
        ("tcp://[::ffff:10.0.0.1]:1", False),
        ("tcp://10.0.0.1:1", False),
    ],
)
def test_is_loopback(value: str, expected: bool) -> None:
    assert is_loopback(parse_address(value)) is expected


def test_the_longest_path_is_the_kernels() -> None:
    assert parse_address("/" + "x" * (MAX_UNIX_PATH - 1))
    assert parse_address("unix:///" + "%C3%A9" * 53)  # 107 bytes, though many more characters


PATHS = st.binary(min_size=1, max_size=MAX_UNIX_PATH - 1).filter(
    lambda path: b"\0" not in path and not path.endswith(b"/")
)
HOSTS = st.one_of(
    st.text(string.ascii_letters + string.digits + "-._", min_size=1, max_size=60),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"{ip}%eth0"),
    st.ip_addresses(v=6).map(lambda ip: f"{ip}%25"),
)


@given(PATHS)
def test_every_path_survives(path: bytes) -> None:
    address = parse_address(b"/" + path)
    assert os.fsencode(address.path) == b"/" + path
    assert address.url.isascii()
    assert address.url.isprintable()
    assert " " not in address.url
    assert parse_address(address.url) == address
    assert is_loopback(address)


@given(HOSTS, st.integers(0, 65535), st.sampled_from(["tcp", "tls"]))
def test_every_host_survives(host: str, port: int, scheme: str) -> None:
    address = Address(scheme, host=host, port=port)
    assert parse_address(address.url) == address
    if scheme == "tcp":
        assert parse_address((host, port)) == address


@given(
    st.text() | st.text("utcplsnix:/[]@%?#.0159ab\0 ").map("tcp://".__add__) | st.text("/%0aF@?")
)
def test_any_text_is_an_address_or_explained(text: str) -> None:
    address, error = None, None
    try:
        address = parse_address(text)
    except ValueError as caught:
        error = caught
    if address is None:
        assert type(error) is ValueError  # not a UnicodeError, say
        assert len(str(error)) < 400
    else:
        assert parse_address(address.url) == address


def test_the_import_is_quick() -> None:
    """The blocking client imports both modules: what few calls need, those calls import."""
    code = (
        "import sys, typing, queue, msgpack; before = set(sys.modules)\n"
        "import aiomanager.protocol.address, aiomanager.protocol.handshake\n"
        "slow = {'asyncio', 'dataclasses', 'hashlib', 'hmac', 'inspect', 'ipaddress', 'socket'}\n"
        "print(*(slow | {'urllib.parse', 'logging'}) & set(sys.modules) - before)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ).stdout
    assert loaded.split() == []
