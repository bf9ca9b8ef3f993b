"""Where a server is reached: addresses read and written; nothing here looks a name or file up."""

import os
from typing import Final, NamedTuple, cast

__all__ = ("MAX_UNIX_PATH", "Address", "is_loopback", "parse_address")

MAX_UNIX_PATH: Final = 107
"""The bytes that a unix socket's path may have: the kernel's 108 with the NUL at their end."""

_SCHEMES: Final = ("unix", "tcp", "tls")
_FORMS: Final = "unix:///path, tcp://host:port or tls://host:port"
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_PLAIN_IN_PATH: Final = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-._~!$&'()*+,;=:@"
)


class Address(NamedTuple):
    """One address: a `path` for the scheme "unix", `host` and `port` for "tcp" and "tls".

    A path that begins with a NUL is an abstract name, which is no file: unix://%00name.
    """

    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def url(self) -> str:
        """The address as a URL, which `parse_address` reads back as this same address."""
        if self.scheme == "unix":
            return f"unix://{_quoted(self.path)}"
        host = self.host
        if ":" in host:
            host = f"[{host.replace('%', '%25')}]"
        return f"{self.scheme}://{host}:{self.port}"


def parse_address(value: "str | bytes | os.PathLike[str] | tuple[str, int] | Address") -> Address:
    """Return the address that a URL, a unix socket's path or a pair of host and port stands for.

    The empty host of a pair means every interface, as it does for sockets. Raises ValueError
    with what is wrong and how to write it, TypeError for something else than an address.
    """
    if isinstance(value, tuple):
        return _parse_tuple(cast("tuple[object, ...]", value))
    if isinstance(value, os.PathLike):
        return _unix(os.fsdecode(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(  # pyright: ignore[reportUnreachable]
            f"an address is {_FORMS}, a path or a pair of host and port, not {type(value).__name__}"
        )
    if value.startswith(("/", "\0")):
        return _unix(value)
    scheme, separator, rest = value.partition("://")
    if not separator:
        host, colon, port = value.rpartition(":")
        if host and colon and port.isdigit():
            raise ValueError(f"{_shown(value)} lacks its scheme: write tcp:// in front of it")
        raise ValueError(f"{_shown(value)} is no address: write {_FORMS} (a path begins with '/')")
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        raise ValueError(f"the scheme of {_shown(value)} is unknown: write {_FORMS}")
    # What follows never repeats `rest` before it is known to hold no secret.
    for mark, what in (("?", "query"), ("#", "fragment")):
        if mark in rest:
            raise ValueError(
                f"the URL of a server has no {what}: keys are given by authkey= or "
                f"AIOMANAGER_AUTHKEY, and a {mark!r} in a path is written %{ord(mark):X}"
            )
    if any(c <= " " or c == "\x7f" for c in rest):
        raise ValueError("a URL has no spaces or control characters: write them as %20 and so on")
    return _parse_unix_url(rest) if scheme == "unix" else _parse_network_url(scheme, rest)


def is_loopback(address: Address) -> bool:
    """Tell whether what is sent to `address` surely stays on this machine; asks no resolver."""
    if address.scheme == "unix":
        return True
    host = address.host
    if host.lower() in ("localhost", "127.0.0.1", "::1"):
        return True
    from ipaddress import IPv6Address, ip_address

    try:
        ip = ip_address(host)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # is_loopback looks through it since Python 3.13 only
    return ip.is_loopback


def _quoted(path: str) -> str:
    """Return a path as it stands in a URL, without an import: none works at the program's end."""
    if path.isascii() and path.replace("/", "").isalnum():
        return path
    raw = path.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN_IN_PATH else f"%{byte:02X}" for byte in raw)


def _shown(value: str) -> str:
    """Return `value` as it may be shown: no password, no query, not long."""
    if not value.startswith("/"):
        scheme, separator, rest = value.rpartition("://")
        rest = rest.partition("?")[0].partition("#")[0]
        value = scheme + separator + rest.rpartition("@")[2]
    return repr(value if len(value) <= 100 else value[:100] + "...")


def _unix(path: str) -> Address:
    # An abstract name has no file, whose mode keeps other users out: the handshake does it.
    abstract = path.startswith("\0")
    if "\0" in path[abstract:] or path == "\0":
        raise ValueError(f"the unix socket's path {_shown(path)} holds a NUL")
    if not path.startswith("/") and not abstract:
        raise ValueError(
            f"the unix socket's path {_shown(path)} is relative, and other processes may run in "
            "other directories: write it from the root (unix:///run/app.sock)"
        )
    if path.endswith("/") and not abstract:
        raise ValueError(f"the unix socket's path {_shown(path)} names a directory: add a name")
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"the unix socket's path {_shown(path)} is no valid text") from None
    if len(raw) > MAX_UNIX_PATH:
        raise ValueError(
            f"the unix socket's path has {len(raw)} bytes, the system allows {MAX_UNIX_PATH}: "
            f"use a shorter directory ({_shown(path)})"
        )
    # The same bytes can be spelled in several ways; one address has one spelling.
    return Address("unix", path=raw.decode("utf-8", "surrogateescape"))


def _parse_unix_url(path: str) -> Address:
    if not path.startswith(("/", "%00")):
        raise ValueError(
            "a unix URL has three slashes, as its path begins at the root: unix:///run/app.sock"
        )
    if "%" in path:
        _check_escapes(path)
        from urllib.parse import unquote

        path = unquote(path, errors="surrogateescape")
    return _unix(path)


def _check_escapes(path: str) -> None:
    for part in path.split("%")[1:]:
        if len(part) < 2 or not set(part[:2]) <= set("0123456789abcdefABCDEF"):
            raise ValueError(
                f"a '%' in the URL's path {_shown(path)} is not followed by two hex digits: "
                "write the character '%' as %25"
            )


def _parse_network_url(scheme: str, rest: str) -> Address:
    if "@" in rest:
        raise ValueError(
            "a URL holds no secret: give the key by authkey= or AIOMANAGER_AUTHKEY, "
            "and write what stands behind the '@' only"
        )
    shown = _shown(f"{scheme}://{rest}")
    rest = rest.removesuffix("/")
    if "/" in rest:
        raise ValueError(f"{shown} has a path, which only unix URLs have")
    if rest.startswith("["):
        host, bracket, after = rest[1:].partition("]")
        if not bracket:
            raise ValueError(f"{shown} lacks the ']' behind its IPv6 address")
        if ":" not in host:
            raise ValueError(f"{shown} has brackets around something that is no IPv6 address")
        host = host.replace("%25", "%", 1)
        port = after.removeprefix(":") if after.startswith(":") or not after else after
        if after and not after.startswith(":"):
            raise ValueError(f"{shown} has something between ']' and its port")
    else:
        host, _, port = rest.partition(":")
        if ":" in port:
            raise ValueError(
                f"{shown} has several colons: write an IPv6 address in brackets, "
                f"{scheme}://[::1]:5000"
            )
    if not host:
        raise ValueError(
            f"{shown} lacks a host: write 127.0.0.1 for this machine, 0.0.0.0 for every interface"
        )
    if not port:
        raise ValueError(f"{shown} lacks a port: write {scheme}://{rest.rstrip(':')}:5000")
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise ValueError(f"the port of {shown} must be a number from 0 to 65535")
    return _network(scheme, host, int(port))


def _parse_tuple(value: "tuple[object, ...]") -> Address:
    if isinstance(value, Address):
        if value.scheme == "unix":
            return _unix(value.path)
        if value.scheme in _SCHEMES:
            return _network(value.scheme, value.host, value.port)
        raise ValueError(f"the scheme {_shown(value.scheme)} is unknown: it is one of {_SCHEMES}")
    if len(value) != 2:
        raise ValueError(f"an address is a pair of host and port, not {len(value)} things")
    host, port = value
    if not isinstance(host, str) or type(port) is not int:
        raise TypeError("an address is a pair of host (str) and port (int)")
    return _network("tcp", host or "0.0.0.0", port)


def _network(scheme: str, host: str, port: int) -> Address:
    if not 0 <= port <= 65535:
        raise ValueError(f"the port {port} is not one of 0 to 65535")
    name, percent, zone = host.partition("%")
    if ":" in name:
        from ipaddress import IPv6Address

        try:
            IPv6Address(name)
        except ValueError:
            raise ValueError(f"{_shown(host)} is no IPv6 address") from None
        valid = _NAME.issuperset(zone) and bool(zone) == bool(percent)
    else:
        valid = bool(name) and _NAME.issuperset(host)
    if not valid:
        raise ValueError(
            f"{_shown(host)} is no host: write a name (in ASCII, as xn--...) or an IP address"
        )
    return Address(scheme, host=host, port=port)
