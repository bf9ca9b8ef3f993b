"""What processes do in the campaign of kills until they are killed: a module of its own.

Each one says through a pipe that it is where it should be, and stays there.
"""

import ctypes
import json
import multiprocessing
import os
import threading
from typing import Any

import aiomanager.sync

__all__ = ("HOLDS", "hold", "hold_in_a_child", "use_queues")

HOLDS = ("Lock", "RLock", "Semaphore", "Condition")
"""What is held when its holder is killed."""


def _stay() -> None:
    threading.Event().wait()


def _say(told: int, **what: Any) -> None:
    os.write(told, json.dumps(what).encode() + b"\n")


def hold(told: int, url: str, kind: str, name: str, how: str) -> None:
    """Acquire something and stay.

    how: "alone"; "socket": a child that Python did not fork keeps the connection open; "depth":
    it is held several times over.
    """
    manager = aiomanager.sync.connect(url)
    it: Any = getattr(manager.named, kind)(name)
    it.acquire()
    if how == "depth" and kind in ("RLock", "Condition"):
        it.acquire()
    child = 0
    if how == "socket":
        libc = ctypes.CDLL(None)
        child = libc.fork()
        if child == 0:
            while True:
                libc.pause()
    _say(told, child=child)
    _stay()


def hold_in_a_child(told: int, url: str, kind: str, name: str) -> None:
    """Acquire something, and have a forked child acquire another that must stay its own."""
    manager = aiomanager.sync.connect(url)
    it: Any = getattr(manager.named, kind)(name)
    it.acquire()
    theirs = manager.named.Lock(f"{name}, the child's")
    ready = manager.named.Event(f"{name}, ready")

    def child() -> None:
        theirs.acquire()
        ready.set()
        _stay()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    ready.wait()
    _say(told, child=process.pid)
    _stay()


def use_queues(told: int, url: str, number: int) -> None:
    """Put items into one queue and get them from another for ever, and note each."""
    manager = aiomanager.sync.connect(url)
    work, results = manager.named.Queue("work"), manager.named.Queue("results")
    _say(told)
    while True:
        item, redelivered = work.get_delivery()
        os.write(told, json.dumps([item, redelivered]).encode() + b"\n")
        results.put([item, number])
