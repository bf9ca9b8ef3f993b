"""Waiters, the fair queues that hold them, and holders."""

from itertools import count
from typing import Any

import pytest

from aiomanager.deadlock import Deadlocks
from aiomanager.waiter import ANYBODY, Caller, Holder, Waiter, WaitQueue


class Seats:
    """Something that so many may have at a time, in order."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.queue = WaitQueue[str](self.serve)
        self.served: list[str] = []

    def serve(self) -> None:
        while self.free and (waiter := self.queue.pop()) is not None:
            self.free -= 1
            self.served.append(waiter.request)
            waiter.grant(waiter.request, self.give_back)

    def give_back(self) -> None:
        self.free += 1
        self.serve()

    def wait(self, name: str, **how: Any) -> Waiter[str]:
        return self.queue.park(request=name, **how)


def heard(waiter: Waiter[Any]) -> list[str]:
    """Return the states in which a waiter's listener is called."""
    states: list[str] = []
    waiter.listener = lambda told: states.append(told.state)
    return states


def never(_seconds: float, _function: object) -> Any:
    raise AssertionError("nothing here is to happen later")


# One waiter


def test_a_granted_waiter_tells_its_listener_once() -> None:
    seats = Seats()
    waiter = seats.wait("a")
    states = heard(waiter)
    assert (waiter.state, waiter.undoable) == ("parked", False)
    seats.give_back()
    assert (waiter.state, waiter.value, waiter.undoable) == ("granted", "a", True)
    assert waiter.cancel()
    assert states == ["granted"]
    assert waiter.listener is None


def test_a_grant_that_nothing_can_undo_ends_the_wait() -> None:
    queue = WaitQueue[int](lambda: None)
    waiter = queue.park()
    states = heard(waiter)
    popped = queue.pop()
    assert popped is waiter
    popped.grant(5)
    assert (waiter.state, waiter.value, states) == ("ended", 5, ["ended"])
    assert not waiter.cancel()


def test_a_result_that_is_there_at_once_can_be_taken_back() -> None:
    undone: list[int] = []
    waiter = Waiter.granted(5, lambda: undone.append(5))
    assert (waiter.state, waiter.value, waiter.undoable) == ("granted", 5, True)
    assert waiter.cancel()
    assert (waiter.state, undone) == ("undone", [5])
    assert not waiter.cancel()
    assert undone == [5]


def test_what_is_kept_can_be_taken_back_once_more() -> None:
    undone: list[int] = []
    waiter = Waiter.granted(5, lambda: undone.append(5))
    waiter.keep()
    assert waiter.state == "kept"
    assert waiter.cancel()
    assert (waiter.state, undone) == ("undone", [5])
    assert not waiter.cancel()


def test_keep_says_nothing_to_a_waiter_that_waits() -> None:
    waiter = Seats().wait("a")
    waiter.keep()
    assert waiter.state == "parked"


def test_a_cancelled_waiter_is_withdrawn_without_a_word() -> None:
    seats = Seats()
    waiter = seats.wait("a")
    states = heard(waiter)
    assert waiter.cancel()
    assert waiter.state == "withdrawn"
    assert len(seats.queue) == 0
    seats.give_back()
    assert (states, seats.served, seats.free) == ([], [], 1)
    assert not waiter.cancel()


def test_time_that_is_over_ends_the_wait_with_its_own_result() -> None:
    seats = Seats()
    waiter = seats.wait("a", timeout=2.0, on_timeout=lambda: "too late")
    states = heard(waiter)
    assert waiter.timeout == 2.0
    waiter.expire()
    assert (waiter.state, waiter.value, waiter.error) == ("ended", "too late", None)
    assert states == ["ended"]
    assert len(seats.queue) == 0
    assert not waiter.cancel()


def test_time_that_is_over_ends_the_wait_with_an_error() -> None:
    def on_timeout() -> str:
        raise LookupError("nothing")

    waiter = Seats().wait("a", timeout=2.0, on_timeout=on_timeout)
    waiter.expire()
    assert isinstance(waiter.error, LookupError)
    plain = Seats().wait("a", timeout=2.0)
    plain.expire()
    assert isinstance(plain.error, TimeoutError)


def test_time_that_is_over_changes_nothing_after_a_grant() -> None:
    seats = Seats()
    waiter = seats.wait("a", timeout=1.0, on_timeout=lambda: "too late")
    seats.give_back()
    states = heard(waiter)
    waiter.expire()
    assert (waiter.state, waiter.value, states) == ("granted", "a", [])


def test_a_waiter_that_fails_leaves_its_queue() -> None:
    seats = Seats()
    waiter = seats.wait("a")
    states = heard(waiter)
    waiter.fail(KeyError("gone"))
    assert isinstance(waiter.error, KeyError)
    assert (waiter.state, states, len(seats.queue)) == ("ended", ["ended"], 0)


# The order


def test_waiters_are_served_in_the_order_in_which_they_came() -> None:
    seats = Seats()
    waiters = [seats.wait(name) for name in "abcd"]
    waiters[1].cancel()
    for _ in range(3):
        seats.give_back()
    assert seats.served == ["a", "c", "d"]


def test_who_is_suspended_is_passed_over_and_keeps_its_place() -> None:
    seats = Seats()
    waiters = [seats.wait(name) for name in "abcd"]
    waiters[0].suspend()
    waiters[1].suspend()
    seats.give_back()
    assert seats.served == ["c"]
    waiters[1].resume()
    waiters[0].resume()
    seats.wait("e")
    for _ in range(4):
        seats.give_back()
    assert seats.served == ["c", "a", "b", "d", "e"]


def test_what_became_free_meanwhile_is_given_to_who_resumes() -> None:
    seats = Seats()
    waiter = seats.wait("a")
    waiter.suspend()
    seats.give_back()
    assert (seats.served, len(seats.queue)) == ([], 1)
    waiter.resume()
    assert (seats.served, seats.free) == (["a"], 0)


def test_who_leaves_lets_the_next_one_be_served() -> None:
    # The first takes two seats and blocks the way for the second.
    free = 1
    served: list[int] = []

    def serve() -> None:
        nonlocal free
        while (first := queue.first()) is not None and first.request <= free:
            queue.pop()
            free -= first.request
            served.append(first.request)
            first.grant(None)

    queue = WaitQueue[None](serve)
    wide, narrow = queue.park(request=2), queue.park(request=1)
    serve()
    assert served == []
    wide.cancel()
    assert (served, narrow.state) == ([1], "ended")


@pytest.mark.parametrize("leave", ["cancel", "expire"])
def test_a_suspended_waiter_can_leave(leave: str) -> None:
    seats = Seats()
    waiter = seats.wait("a", timeout=1.0, on_timeout=lambda: "too late")
    waiter.suspend()
    getattr(waiter, leave)()
    assert len(seats.queue) == 0
    waiter.resume()
    seats.give_back()
    assert seats.served == []


def test_everybody_is_let_go_in_order_suspended_or_not() -> None:
    seats = Seats()
    waiters = [seats.wait(name) for name in "abcd"]
    waiters[0].suspend()
    waiters[2].suspend()
    assert [waiter.request for waiter in seats.queue.pop_all()] == ["a", "b", "c", "d"]
    assert len(seats.queue) == 0
    for waiter in waiters:
        waiter.resume()
    assert seats.queue.first() is None


def test_suspending_twice_and_resuming_what_was_not_suspended_do_nothing() -> None:
    seats = Seats()
    a, b = seats.wait("a"), seats.wait("b")
    b.resume()
    a.suspend()
    a.suspend()
    a.resume()
    assert [waiter.request for waiter in seats.queue.pop_all()] == ["a", "b"]


# Holders


def test_a_holder_gives_back_what_it_holds_when_it_ends() -> None:
    holder = Holder("pid 1", count(1), lambda: 0.0, never, Deadlocks())
    back: list[str] = []
    for name in "abc":
        holder.hold(name, lambda name=name: back.append(name))
    holder.let_go("b")
    holder.let_go("never held")
    holder.end()
    assert sorted(back) == ["a", "c"]
    holder.end()
    assert len(back) == 2


@pytest.mark.parametrize("well", [True, False])
def test_what_stays_is_given_back_only_by_a_holder_that_died(well: bool) -> None:
    holder = Holder("pid 1", count(1), lambda: 0.0, never, Deadlocks())
    back: list[str] = []
    holder.hold("lock", lambda: back.append("lock"), stays=True)
    holder.hold("other", lambda: back.append("other"))
    holder.in_good_order = well
    holder.end()
    assert sorted(back) == (["other"] if well else ["lock", "other"])


def test_what_was_let_go_no_longer_stays() -> None:
    holder = Holder("pid 1", count(1), lambda: 0.0, never, Deadlocks())
    back: list[str] = []
    holder.hold("lock", lambda: back.append("first"), stays=True)
    holder.let_go("lock")
    holder.hold("lock", lambda: back.append("second"))
    holder.in_good_order = True
    holder.end()
    assert back == ["second"]


def test_what_is_given_back_may_free_something_else() -> None:
    holder = Holder("pid 1", count(1), lambda: 0.0, never, Deadlocks())
    back: list[str] = []

    def free_both() -> None:
        back.append("a")
        holder.let_go("b")

    holder.hold("b", lambda: back.append("b"))
    holder.hold("a", free_both)
    holder.end()
    assert back == ["a"]


# Callers


def test_a_task_is_an_owner_of_its_own_session_and_a_name_is_one_everywhere() -> None:
    one, two = (Holder(f"pid {n}", count(1), lambda: 0.0, never, Deadlocks()) for n in (1, 2))
    assert Caller(one, 5, 0.0).identity == Caller(one, 5, 9.0).identity
    assert Caller(one, 5, 0.0).identity != Caller(one, 6, 0.0).identity
    assert Caller(one, 5, 0.0).identity != Caller(two, 5, 0.0).identity
    assert Caller(one, 5, 0.0).named("job").identity == Caller(two, 7, 1.0).named("job").identity
    assert Caller(one, 5, 0.0).named("job").identity != Caller(one, 5, 0.0).named("bob").identity
    assert Caller(one, 5, 0.0).named(ANYBODY).identity == ANYBODY
    plain = Caller(one, 5, 3.0)
    assert plain.named(None) is plain
    assert plain.named("job").now == 3.0
    assert (str(plain), str(plain.named("job"))) == ("pid 1, task or thread 5", "pid 1, job")
