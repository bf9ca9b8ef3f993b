"""Objects of the program's own classes, inside a server: their methods run in threads.

The server's loop never runs a program's code: such code may block, and may call proxies of this
same server. Each session, which is one thread of a client, has a thread of its own here.
"""

import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from queue import Queue, SimpleQueue
from typing import Any, Final, NamedTuple, TypeAlias, cast

from aiomanager.operation import Opaque, Raw, SharedObject, delegates, reads, writes
from aiomanager.proxy import shared_type_of
from aiomanager.sessions.store import Store
from aiomanager.waiter import Caller, Waiter

__all__ = (
    "ERROR",
    "HOSTED",
    "NATIVE",
    "RETURN",
    "TRACEBACK",
    "UNSERIALIZABLE",
    "WORKSHOP",
    "Answer",
    "Entry",
    "Home",
    "Hosted",
    "Registry",
    "Workshop",
    "public_methods",
)

WORKSHOP: Final = 1
"""The id of the workshop, on a server that has one."""

RETURN: Final = "return"
ERROR: Final = "error"
TRACEBACK: Final = "traceback"
UNSERIALIZABLE: Final = "unserializable"
HOSTED: Final = "hosted"
NATIVE: Final = "native"

Answer: TypeAlias = tuple[str, Opaque, int, str, list[str]]
"""What comes of a call: its kind, and

    return          the result
    error           the exception that the method raised, and the text of its traceback
    traceback       the text of what went wrong on the way to the method
    unserializable  the representation of a result that cannot travel
    hosted          a new reference: [typeid, proxy class], object id, "", exposed methods
    native          a new reference: [typeid, proxy class], object id, shared type
"""


class Entry(NamedTuple):
    """What a program registered under a typeid."""

    callable: Callable[..., Any] | None
    exposed: tuple[str, ...] | None
    method_to_typeid: Mapping[str, str] | None
    proxytype: Any


Registry: TypeAlias = Mapping[str, Entry]

_Identity: TypeAlias = tuple[int, tuple[str, ...], tuple[tuple[str, str], ...]]
"""An object's identity, the methods that are exposed, and the typeids of what they return."""

_SHARED: Final = "_aiomanager_shared"
"""The attribute of a program's queue that is the proxy which works in its place."""


class Home(NamedTuple):
    """What the workshop needs of the server around it."""

    store: Store
    soon: Callable[..., object]
    """Have the loop call a function, from any thread."""
    flush: Callable[[], None]
    """Have the loop send what is to be sent."""
    decode: Callable[[Any], Any]
    """Open what a client sent."""
    encode: Callable[[Any], Any]
    """Return a value as it travels, or raise."""
    native: Callable[[Entry, tuple[Any, ...], Mapping[str, Any]], Any]
    """Return the proxy of a new shared object of our own type, if that is what was registered."""
    adopt: Callable[[Any], Any]
    """Return the proxy of a shared queue that does the work of a `queue.Queue` from now on."""
    face: Callable[[Any], str]
    """Return the name under which a client finds a proxy class, or nothing."""
    stop: Callable[[], None]
    """Have the server end."""


def public_methods(obj: object) -> list[str]:
    """Return the names of an object's public methods."""
    return [n for n in dir(obj) if not n.startswith("_") and callable(getattr(obj, n))]


class _Answered(Exception):
    """Carries an answer that is no result."""

    def __init__(self, kind: str, value: Any) -> None:
        super().__init__(kind)
        self.kind = kind
        self.value = value


class _Made(NamedTuple):
    """An object that a client is to get a proxy of."""

    typeid: str
    obj: Any
    exposed: list[str]
    native: Any
    """The proxy of the shared object of our own that stands for it, if there is one."""


class _Worker(threading.Thread):
    """Runs one session's calls, one after the other."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()
            del job  # it holds the arguments until the next one comes


class _Loop(threading.Thread):
    """Runs the coroutines that methods return."""

    def __init__(self) -> None:
        import asyncio  # a client imports this file too, and does without

        super().__init__(name="coroutine methods", daemon=True)
        self._submit = asyncio.run_coroutine_threadsafe
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        self._loop.run_forever()

    def result(self, awaitable: Awaitable[Any]) -> Any:
        """Return what an awaitable comes to, or raise what it raises."""

        async def wait() -> Any:
            return await awaitable

        return self._submit(wait(), self._loop).result()


class Workshop(SharedObject, name="workshop"):
    """Makes objects of the classes that a program registered, and carries out their methods."""

    def __init__(self, registry: Raw, home: Raw) -> None:
        self._registry: Registry = registry
        self._home: Home = home
        self._workers: dict[object, _Worker] = {}
        self._hosted: dict[_Identity, int] = {}
        """The object id of each hosted object, as it is exposed."""
        self._coroutines: _Loop | None = None
        self._starting = threading.Lock()
        self._burial: _Worker | None = None

    @delegates
    def create(self, caller: Caller, typeid: str, arguments: Opaque) -> Answer | Waiter[Answer]:
        """Call what is registered as `typeid`; `arguments` are a tuple and a dict.

        Returns an answer: a hosted or native object, or a traceback.
        """
        return self._delegate(caller, partial(self._create, typeid), arguments)

    @writes
    def shutdown(self) -> None:
        """End the server."""
        self._home.stop()

    # On the loop

    def _delegate(
        self, caller: Caller, work: Callable[[tuple[Any, ...], Mapping[str, Any]], Any], sent: Any
    ) -> Waiter[Answer]:
        """Have the session's worker do the work and answer."""
        holder = caller.holder
        worker = self._workers.get(holder)
        if worker is None:
            worker = self._workers[holder] = _Worker(f"for {holder.description}")
            worker.start()
            holder.hold(worker, partial(self._dismiss, holder))
        waiter: Waiter[Answer] = Waiter()
        packed = sent.packed() if hasattr(sent, "packed") else sent
        # What the arguments refer to must live until they are opened: `sent` sees to that.
        worker.jobs.put(partial(self._work, waiter, work, packed, sent))
        return waiter

    def _dismiss(self, holder: object) -> None:
        worker = self._workers.pop(holder, None)
        if worker is not None:
            worker.jobs.put(None)

    def _deliver(self, waiter: Waiter[Answer], kind: str, value: Any, made: _Made | None) -> None:
        """Give the caller what the worker found, unless it has left."""
        if waiter.settled:
            return
        store = self._home.store
        try:
            held = store.held(value)
            if made is None:
                waiter.grant((kind, held, 0, "", []))
            else:
                waiter.grant(self._handed_out(made, held))
        except Exception as error:
            waiter.fail(error)
        self._home.flush()

    def _handed_out(self, made: _Made, value: Any) -> Answer:
        """Return the answer with a new reference to an object."""
        store = self._home.store
        if made.native is not None:
            object_id = made.native._reference.object_id
            store.handed_out.append(object_id)
            return (
                NATIVE,
                value,
                object_id,
                shared_type_of(cast("Any", type(made.native))).type_name,
                [],
            )
        typeids = dict(self._registry[made.typeid].method_to_typeid or {})
        identity = (id(made.obj), tuple(made.exposed), tuple(typeids.items()))
        object_id = self._hosted.get(identity, 0)
        if object_id not in store.entries or not object_id:
            hosted = Hosted(self, made.obj, made.exposed, typeids)
            object_id = self._hosted[identity] = store.adopt(hosted).object_id
            hosted.number, hosted.identity = object_id, identity
        store.handed_out.append(object_id)
        return (HOSTED, value, object_id, "", made.exposed)

    def _forget(self, obj: object, number: int, identity: "_Identity") -> None:
        """Let go of an object that nobody refers to any more; its finalizer may do anything."""
        if self._hosted.get(identity) == number:
            del self._hosted[identity]
        if self._burial is None:
            self._burial = _Worker("finalizers of hosted objects")
            self._burial.start()
        self._burial.jobs.put(partial(_drop, [obj]))

    def _close(self) -> None:
        """End the thread that no session ends: the server has ended."""
        if self._burial is not None:
            self._burial.jobs.put(None)

    # In the session's thread

    def _work(
        self,
        waiter: Waiter[Answer],
        work: Callable[[tuple[Any, ...], Mapping[str, Any]], Any],
        packed: Any,
        _sent: Any,
    ) -> None:
        if waiter.settled:
            return  # the caller has left before it was begun
        home = self._home
        made: _Made | None = None
        value: Any
        try:
            given, named = home.decode(packed)
            found = work(given, named)
            if isinstance(found, _Made):
                made = found
                kind, value = HOSTED, [found.typeid, home.face(self._registry[found.typeid][3])]
            else:
                kind, value = RETURN, found
        except _Answered as answered:
            kind, value = answered.kind, answered.value
        except BaseException:
            # Also SystemExit: a method ends a call by it, and not the server.
            kind, value = TRACEBACK, traceback.format_exc()
        kind, value = self._packed(kind, value)
        home.soon(self._deliver, waiter, kind, value, made)

    def _packed(self, kind: str, value: Any) -> tuple[str, Any]:
        encode = self._home.encode
        try:
            if kind == ERROR:
                _check_pickle(value[0])
            return kind, encode(value)
        except Exception:
            if kind == ERROR:
                return TRACEBACK, encode(f"{value[1]}(the exception itself cannot be sent)\n")
            return UNSERIALIZABLE, encode(f"{_shown(value)}\n{traceback.format_exc()}")

    def _create(self, typeid: str, given: tuple[Any, ...], named: Mapping[str, Any]) -> _Made:
        """Make, or find, the object that a client asks for."""
        entry = self._registry[typeid]
        make, exposed, method_to_typeid, _ = entry
        native = self._home.native(entry, given, named)
        if native is not None:
            return _Made(typeid, None, [], native)
        if make is None:
            if named or len(given) != 1:
                raise ValueError("Without callable, must have one non-keyword argument")
            obj = given[0]
        else:
            obj = make(*given, **named)
        kind = cast("Any", type(obj))
        if kind is Queue and exposed is None and not method_to_typeid:
            return _Made(typeid, None, [], self._adopt(cast("Queue[Any]", obj)))
        names = public_methods(obj) if exposed is None else list(exposed)
        names += [name for name in method_to_typeid or () if name not in names]
        return _Made(typeid, obj, names, None)

    def _adopt(self, queue: "Queue[Any]") -> Any:
        with self._starting:
            # The queue holds it: another one may have the same identity later.
            proxy = queue.__dict__.get(_SHARED)
            if proxy is None:
                proxy = queue.__dict__[_SHARED] = self._home.adopt(queue)
            return proxy

    def _finished(self, awaitable: Awaitable[Any]) -> Any:
        with self._starting:
            if self._coroutines is None:
                self._coroutines = _Loop()
                self._coroutines.start()
        return self._coroutines.result(awaitable)


class Hosted(SharedObject, name="hosted"):
    """One object of a program's own class, in its server."""

    number = 0
    """Its object id."""
    identity: "_Identity" = (0, (), ())

    def __init__(self, workshop: Raw, obj: Raw, exposed: Raw, typeids: Raw) -> None:
        self._workshop: Workshop = workshop
        self._obj = obj
        self._exposed: list[str] = exposed
        self._typeids: dict[str, str] = typeids

    def __del__(self) -> None:
        self._workshop._forget(  # pyright: ignore[reportPrivateUsage]
            self._obj, self.number, self.identity
        )

    @delegates
    def call(self, caller: Caller, method: str, arguments: Opaque) -> Answer | Waiter[Answer]:
        """Call a method of the object; `arguments` are a tuple and a dict.

        Returns an answer: a result or an error, or a traceback if there is no such method.
        """
        return self._workshop._delegate(  # pyright: ignore[reportPrivateUsage]
            caller, partial(self._call, method), arguments
        )

    @reads
    def methods(self) -> list[str]:
        """Return the names of the methods that clients may call."""
        return self._exposed

    def _call(self, method: str, given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        obj = self._obj
        if method not in self._exposed:
            if method in ("__str__", "__repr__"):
                return str(obj) if method == "__str__" else repr(obj)
            if method == "#GETVALUE":
                return obj
            raise AttributeError(
                f"method {method!r} of {type(obj)!r} object is not in exposed={self._exposed!r}"
            )
        function = getattr(obj, method)
        workshop = self._workshop
        try:
            result = function(*given, **named)
            if isinstance(result, Awaitable):
                result = workshop._finished(cast("Awaitable[Any]", result))  # pyright: ignore[reportPrivateUsage]
        except Exception as error:
            text = traceback.format_exc()
            # Without its frames, which would keep everything in them alive.
            raise _Answered(ERROR, (error.with_traceback(None), text)) from None
        typeid = self._typeids.get(method)
        # Without that type, which is SyncManager's, the iterator of a dict travels by itself.
        if typeid is not None and (typeid != "Iterator" or typeid in workshop._registry):  # pyright: ignore[reportPrivateUsage]
            return workshop._create(typeid, (result,), {})  # pyright: ignore[reportPrivateUsage]
        return _as_list(result)


_EMPTY: dict[Any, Any] = {}
_VIEWS: Final = (type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))


def _as_list(result: Any) -> Any:
    """Return the views of a dict, which cannot travel, as lists."""
    return list(cast("Iterable[Any]", result)) if type(result) in _VIEWS else result


def _check_pickle(error: BaseException) -> None:
    """Raise what a client would run into when it opens a pickled exception."""
    import pickle

    pickle.loads(pickle.dumps(error))


def _shown(value: object) -> str:
    """Return the representation of a value, which may have none."""
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


def _drop(things: list[Any]) -> None:
    things.clear()
