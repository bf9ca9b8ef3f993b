"""A client that knows the pages in protocol/ alone, and no code of ours, against a real server."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .foreign import ForeignClient, RemoteError, key

SECRET = "a key that the tests alone know"
JAVASCRIPT = Path(__file__).parent / "foreign.mjs"


def test_it_is_foreign() -> None:
    """What the clients import."""
    source = (Path(__file__).parent / "foreign.py").read_text()
    assert "import aiomanager" not in source
    assert "from aiomanager" not in source


@contextlib.contextmanager
def serving(url: str, secret: str | None) -> Iterator[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("AIOMANAGER_")
    }
    if secret is not None:
        environment["AIOMANAGER_AUTHKEY"] = secret
    process = subprocess.Popen(
        [sys.executable, "-m", "aiomanager", "serve", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module", params=["peer", "key"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, bytes | None]]:
    if request.param == "peer":
        path = tmp_path_factory.mktemp("foreign") / "s"
        with serving(f"unix://{path}", None) as url:
            yield url, None
    else:
        with serving("tcp://127.0.0.1:0", SECRET) as url:
            yield url, SECRET.encode()


@pytest.fixture
def client(place: tuple[str, bytes | None]) -> Iterator[ForeignClient]:
    one = ForeignClient(*place)
    yield one
    with contextlib.suppress(OSError):
        one.bye()


@pytest.fixture
def other(place: tuple[str, bytes | None]) -> Iterator[ForeignClient]:
    one = ForeignClient(*place)
    yield one
    one.bye()


def test_dict(client: ForeignClient) -> None:
    shared = client.create("dict")
    assert client.call(shared, "set", key("k"), "world") is None
    assert client.call(shared, "get", key("k")) == "world"
    assert client.call(shared, "increment", key("n")) == 1
    assert client.call(shared, "increment", key("n"), 41) == 42
    assert client.call(shared, "get", key("x")) is None
    assert client.call(shared, "get", key("x"), None) == []  # M-22: take your own default
    assert client.call(shared, "items") == [[key("k"), "world"], [key("n"), 42]]
    with pytest.raises(RemoteError) as caught:
        client.call(shared, "get_item", key("x"))
    assert (caught.value.code, caught.value.data) == (400, key("x"))
    with pytest.raises(RemoteError) as caught:
        client.call(shared, "explode")
    assert caught.value.code == 300
    client.release(shared)
    with pytest.raises(RemoteError) as caught:
        client.call(shared, "length")
    assert caught.value.code == 302


def test_names_and_references(client: ForeignClient, other: ForeignClient) -> None:
    shared = client.named("list", "votes", [1, 2])
    assert other.named("list", "votes", []) == shared
    assert other.call(shared, "copy") == [1, 2]
    assert client.call(0, "names") == [["votes", "list"]]
    client.call(0, "delete", "votes")
    with pytest.raises(RemoteError) as caught:
        other.call(shared, "length")
    assert caught.value.code == 302
    anonymous = client.create("Value", "i", 5)
    other.hold(anonymous)
    other.call(anonymous, "get")
    client.release(anonymous)
    client.call(0, "names")
    assert other.call(anonymous, "get") == 5


def test_a_getter_that_waits(client: ForeignClient, other: ForeignClient) -> None:
    queue = client.named("Queue", "items")
    waiting = client.send_call(queue, "get")
    other.call(other.named("Queue", "items"), "put", "item")
    assert client.answer(waiting) == "item"
    client.keep(waiting)
    assert client.call(queue, "qsize") == 0
    with pytest.raises(RemoteError) as caught:
        client.call(queue, "get", True, 0.01)
    assert caught.value.code == 405
    client.call(0, "delete", "items")


def test_cancel(client: ForeignClient, other: ForeignClient) -> None:
    queue = client.create("Queue")
    waiting = client.send_call(queue, "get")
    assert client.cancel(waiting) == 0
    client.call(queue, "put", "item")
    granted = client.send_call(queue, "get")
    assert client.answer(granted) == "item"
    assert client.cancel(granted) == 0  # it was not kept: it goes back
    assert client.call(queue, "get_delivery") == ["item", True]
    client.keep(client.last_call)
    assert client.cancel(client.send_call(queue, "put_nowait", "more")) == 1
    assert client.get(queue) == "more"


def test_locks(client: ForeignClient, other: ForeignClient) -> None:
    lock = client.named("Lock", "door")
    fence = client.call(lock, "acquire_fenced", owner=7)
    client.keep(client.last_call)
    assert fence > 0
    with pytest.raises(RemoteError) as caught:
        client.call(lock, "release", owner=8)
    assert caught.value.code == 408
    assert other.call(other.named("Lock", "door"), "acquire_fenced", False) == 0
    waiting = other.send_call(lock, "acquire_fenced")
    client.wait_until(lambda: client.call(lock, "waiting") == 1)
    client.post(lock, "release", owner=7)
    assert other.answer(waiting) > fence
    client.call(0, "delete", "door")


def test_a_large_answer_is_confirmed(client: ForeignClient) -> None:
    shared = client.create("dict")
    value = b"\xc6" + (1 << 20).to_bytes(4, "big") + bytes(1 << 20)
    client.call(shared, "set", key("k"), value)
    for _ in range(20):  # more than a server keeps
        assert client.call(shared, "get", key("k")) == value
    assert client.told == client.received


@pytest.mark.parametrize("read", [False, True])
def test_resume(client: ForeignClient, other: ForeignClient, read: bool) -> None:
    shared = client.create("dict")
    queue = client.named("Queue", "jobs")
    waiting = client.send_call(queue, "get")
    counting = client.send_call(shared, "increment", key("n"))
    if read:
        assert client.answer(counting) == 1
    client.cut()
    lost = client.send_call(shared, "increment", key("n"))  # into a connection that is gone
    other.call(other.named("Queue", "jobs"), "put", "item")
    client.resume()
    if not read:
        assert client.answer(counting) == 1
    assert client.answer(lost) == 2
    assert client.answer(waiting) == "item"
    client.keep(waiting)
    assert client.call(shared, "get", key("n")) == 2
    client.call(0, "delete", "jobs")


def test_many_cuts(client: ForeignClient) -> None:
    shared = client.create("dict")
    for number in range(1, 40):
        call = client.send_call(shared, "increment", key("n"))
        if number % 3:
            client.cut()
            client.resume()
        assert client.answer(call) == number


def test_an_attempt_that_was_overtaken(client: ForeignClient) -> None:
    client.resume()  # moves the session from a connection that stands
    client.attachment -= 1
    with pytest.raises(RemoteError) as caught:
        client.resume()
    assert caught.value.code == 109
    client.attachment += 1
    client.resume()
    assert client.call(0, "statistics")


def test_a_session_that_is_over(client: ForeignClient) -> None:
    client.bye()
    with pytest.raises(RemoteError) as caught:
        client.resume()
    assert caught.value.code == 200


def test_a_wrong_key(place: tuple[str, bytes | None]) -> None:
    url, secret = place
    with pytest.raises(RemoteError) as caught:
        ForeignClient(url, b"another key, as long as that")
    assert caught.value.code == 104
    if secret is not None:
        with pytest.raises(RemoteError) as caught:
            ForeignClient(url)
        assert caught.value.code == 104


@pytest.mark.skipif(shutil.which("node") is None or not JAVASCRIPT.exists(), reason="needs node")
def test_javascript(place: tuple[str, bytes | None]) -> None:
    """The same again in a language without msgpack, integers and tuples."""
    url, secret = place
    arguments = ["node", str(JAVASCRIPT), url]
    done = subprocess.run(
        arguments if secret is None else [*arguments, secret.hex()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["ok"]), done.stderr
