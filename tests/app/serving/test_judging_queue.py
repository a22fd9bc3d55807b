"""Who judges next, how many may wait, and what those who wait are told."""

from __future__ import annotations

import threading

import pytest

from app.serving.judging_queue import (
    HALF_LIFE,
    MOST_IN_ALL,
    MOST_LARGE,
    MOST_OF_NETWORK,
    MOST_OF_PERSON,
    MOST_OF_SESSION,
    MOST_PAUSED,
    JudgingQueue,
    Place,
    QueueFullError,
    Ticket,
    Visitor,
)


def visitor(number: int) -> Visitor:
    """A visitor with a tab and an address of their own."""
    return Visitor(f"tab {number}", f"192.0.2.{number}")


def a_queue(at_once: int) -> JudgingQueue:
    """One for which no time goes by."""
    return JudgingQueue(at_once, clock=lambda: 0.0)


class Clock:
    """Seconds that go by when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed_queue(at_once: int) -> tuple[JudgingQueue, Clock]:
    """A queue that has seen a judgement of one second, a long time ago."""
    clock = Clock()
    queue = JudgingQueue(at_once, clock)
    with queue.enter(visitor(99)):
        clock.now = 1.0
    clock.now = 10_000.0
    return queue, clock


def is_paused(ticket: Ticket) -> bool:
    return ticket.since is None and not ticket.wait(0)


def whose_turn(queue: JudgingQueue, tickets: list[Ticket]) -> list[Ticket]:
    """End the running judgements one after the other; the tickets in the order of their turns."""
    order: list[Ticket] = []
    while len(order) < len(tickets):
        running = [ticket for ticket in tickets if ticket not in order and ticket.wait(0)]
        assert running, "nobody's turn"
        order += running
        queue.leave(running[0])
    return order


def test_the_first_ones_go_at_once_and_the_next_when_one_leaves() -> None:
    queue = a_queue(at_once=2)
    first, second, third = (queue.enter(visitor(number)) for number in range(3))
    assert [ticket.wait(0) for ticket in (first, second, third)] == [True, True, False]
    assert (first.place, third.place) == (Place(), Place(1))
    queue.leave(second)
    assert third.wait(0)
    assert queue.counts() == (2, 0)


def test_an_engine_that_gains_from_more_gets_them_at_once() -> None:
    queue = a_queue(1)
    tickets = [queue.enter(visitor(number)) for number in range(4)]
    assert queue.counts() == (1, 3)
    queue.set_at_once(3)
    assert queue.counts() == (3, 1)
    queue.set_at_once(1)
    assert queue.counts() == (3, 1), "those that run go on"
    for ticket in tickets:
        queue.leave(ticket)


def test_people_with_an_account_come_first() -> None:
    queue = a_queue(at_once=1)
    tickets = [queue.enter(visitor(number)) for number in range(3)]
    signed_in = queue.enter(Visitor("tab", "192.0.2.9", person=7))
    assert whose_turn(queue, [*tickets, signed_in]) == [tickets[0], signed_in, *tickets[1:]]


def test_many_of_one_visitor_let_others_in_between() -> None:
    queue = a_queue(at_once=1)
    greedy = [queue.enter(visitor(1)) for _ in range(3)]
    modest = [queue.enter(visitor(2)), queue.enter(visitor(3))]
    assert whose_turn(queue, [*greedy, *modest]) == [greedy[0], *modest, *greedy[1:]]


def test_many_sessions_of_one_network_let_other_networks_in_between() -> None:
    queue = a_queue(at_once=1)
    many = [queue.enter(Visitor(f"tab {number}", "192.0.2.1")) for number in range(5)]
    others = [queue.enter(visitor(number)) for number in (2, 3)]
    assert whose_turn(queue, [*many, *others]) == [many[0], *others, *many[1:]]


def test_those_of_one_network_keep_their_order() -> None:
    queue = a_queue(at_once=1)
    office = [queue.enter(Visitor(f"tab {number}", "192.0.2.1")) for number in range(3)]
    again = queue.enter(Visitor("tab 1", "192.0.2.1"))
    last = queue.enter(Visitor("tab 3", "192.0.2.1"))
    assert whose_turn(queue, [*office, again, last]) == [*office, last, again]


def test_somebody_who_gives_up_holds_up_nobody_of_their_network() -> None:
    queue = a_queue(at_once=1)
    running = queue.enter(visitor(9))
    office = [queue.enter(Visitor(f"tab {number}", "192.0.2.1")) for number in range(3)]
    queue.leave(office[0])
    assert [ticket.place.number for ticket in office[1:]] == [1, 2]
    other = queue.enter(visitor(2))
    queue.leave(running)
    assert whose_turn(queue, [office[1], other, office[2]]) == [office[1], other, office[2]]


def test_a_visitor_has_a_few_places_and_a_network_some_more() -> None:
    queue = JudgingQueue()
    own = [queue.enter(visitor(1)) for _ in range(MOST_OF_SESSION)]
    with pytest.raises(QueueFullError, match=f"{MOST_OF_SESSION} of your judgements"):
        queue.enter(visitor(1))
    queue.leave(own[0])
    queue.enter(visitor(1))
    for number in range(MOST_OF_NETWORK - MOST_OF_SESSION):  # with a tab of its own each
        queue.enter(Visitor(f"other tab {number}", "192.0.2.1"))
    with pytest.raises(QueueFullError, match="from your network"):
        queue.enter(Visitor("one more tab", "192.0.2.1"))
    signed_in = Visitor("tab", "192.0.2.1", person=1)
    for _ in range(MOST_OF_PERSON):
        queue.enter(signed_in)
    with pytest.raises(QueueFullError, match="of your judgements"):
        queue.enter(signed_in)
    queue.enter(visitor(2))


def test_addresses_of_one_ipv6_network_are_one_visitors() -> None:
    queue = JudgingQueue()
    for number in range(MOST_OF_NETWORK):
        queue.enter(Visitor(f"tab {number}", f"2001:db8::{number + 1:x}"))
    with pytest.raises(QueueFullError, match="from your network"):
        queue.enter(Visitor("another tab", "2001:db8::ffff"))
    queue.enter(Visitor("a tab elsewhere", "2001:db8:0:1::1"))


def test_there_is_an_end_to_all_of_them_together() -> None:
    queue = JudgingQueue()
    for number in range(MOST_IN_ALL):
        queue.enter(Visitor(f"tab {number}", f"address {number}"))
    with pytest.raises(QueueFullError, match=f"{MOST_IN_ALL} judgements wait already"):
        queue.enter(visitor(1))


def test_a_block_gives_its_place_back_whatever_ends_it() -> None:
    queue = a_queue(at_once=1)
    with queue.enter(visitor(1)), pytest.raises(RuntimeError), queue.enter(visitor(2)):
        raise RuntimeError
    assert queue.counts() == (0, 0)


def test_the_time_is_told_from_those_before_and_a_failed_one_tells_nothing() -> None:
    seconds = [0.0]
    queue = JudgingQueue(at_once=1, clock=lambda: seconds[0])
    first = queue.enter(visitor(1))
    second, third = queue.enter(visitor(2)), queue.enter(visitor(3))
    assert third.place == Place(2)
    seconds[0] = 10.0
    queue.leave(first)
    assert third.place == Place(1, 10.0)
    seconds[0] = 999.0
    queue.leave(second, measured=False)
    fourth = queue.enter(visitor(4))
    assert fourth.place == Place(1, 10.0)


def test_a_wait_ends_with_its_turn_or_with_what_else_it_waits_for() -> None:
    queue = a_queue(at_once=1)
    running, waiting = queue.enter(visitor(1)), queue.enter(visitor(2))
    cancelled = threading.Event()
    cancelled.set()
    assert not waiting.wait(3600, cancelled.is_set)
    threading.Thread(target=queue.leave, args=(running,)).start()
    assert waiting.wait(3600)


def test_many_threads_are_never_more_than_fit() -> None:
    queue, most, now = JudgingQueue(at_once=3), [0], [0]
    lock = threading.Lock()

    def judge(number: int) -> None:
        with queue.enter(visitor(number)) as ticket:
            assert ticket.wait(3600)
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=judge, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 3
    assert queue.counts() == (0, 0)


# ---- more than one's share -----------------------------------------------------------------------------------------


def test_one_who_had_more_than_a_share_is_behind_everybody_else() -> None:
    queue, clock = timed_queue(at_once=1)
    with queue.enter(visitor(1)):
        clock.now += 20
    running = queue.enter(visitor(2))
    heavy, others = queue.enter(visitor(1)), [queue.enter(visitor(number)) for number in (3, 4)]
    clock.now += 1
    assert whose_turn(queue, [running, heavy, *others]) == [running, *others, heavy]


def test_it_is_forgotten() -> None:
    queue, clock = timed_queue(at_once=1)
    with queue.enter(visitor(1)):
        clock.now += 20
    clock.now += 5 * HALF_LIFE
    running = queue.enter(visitor(2))
    first, second = queue.enter(visitor(1)), queue.enter(visitor(3))
    assert whose_turn(queue, [running, first, second]) == [running, first, second]


def test_a_long_judgement_is_paused_for_others_and_goes_on_after_them() -> None:
    queue, clock = timed_queue(at_once=1)
    long = queue.enter(visitor(1))
    clock.now += 20
    short = queue.enter(visitor(2))
    assert short.wait(0)
    assert is_paused(long)
    assert queue.counts() == (2, 0)
    clock.now += 1
    queue.leave(short)
    assert long.wait(0)
    assert long.seconds == 20, "the time of others is not counted as its own"


def test_an_ordinary_judgement_is_never_paused() -> None:
    queue, clock = timed_queue(at_once=1)
    one = queue.enter(visitor(1))
    clock.now += 1.5
    other = queue.enter(visitor(2))
    assert (one.wait(0), other.wait(0)) == (True, False)


def test_only_a_few_are_paused_and_no_two_for_each_other() -> None:
    queue, clock = timed_queue(at_once=MOST_PAUSED + 1)
    long = [queue.enter(visitor(number)) for number in range(MOST_PAUSED + 1)]
    clock.now += 20
    short = [queue.enter(visitor(10 + number)) for number in range(3 * MOST_PAUSED)]
    assert sum(is_paused(ticket) for ticket in long) == MOST_PAUSED
    assert sum(ticket.wait(0) for ticket in short) == MOST_PAUSED
    queue.enter(visitor(0))
    assert sum(is_paused(ticket) for ticket in long) == MOST_PAUSED


def test_few_large_ones_are_begun_and_small_ones_go_past_those_that_wait() -> None:
    queue, clock = timed_queue(at_once=2)
    large = [queue.enter(visitor(number), large=True) for number in range(MOST_LARGE + 2)]
    clock.now += 20
    small = [queue.enter(visitor(10 + number)) for number in range(2)]
    assert [ticket.wait(0) for ticket in small] == [True, True]
    assert queue.counts() == (2 + MOST_LARGE, 2)
    for ticket in small:
        queue.leave(ticket)
    assert [ticket.wait(0) for ticket in large] == [True] * MOST_LARGE + [False] * 2
    queue.leave(large[0])
    assert large[MOST_LARGE].wait(0)


def test_somebody_without_an_account_pauses_nobody_who_has_one() -> None:
    queue, clock = timed_queue(at_once=1)
    person = queue.enter(Visitor("tab", "192.0.2.9", person=7))
    clock.now += 20
    stranger = queue.enter(visitor(1))
    assert (person.wait(0), stranger.wait(0)) == (True, False)


def test_a_paused_judgement_waits_before_its_next_step() -> None:
    queue, clock = timed_queue(at_once=1)
    long = queue.enter(visitor(1))
    clock.now += 20
    short = queue.enter(visitor(2))
    cancelled = threading.Event()
    cancelled.set()
    long.give_way(cancelled.is_set)  # one that is left does not wait
    threading.Thread(target=queue.leave, args=(short,)).start()
    long.give_way()
    assert long.wait(0)


def test_leaving_is_counted_as_well() -> None:
    """Asking and leaving again and again would else be free."""
    queue, clock = timed_queue(at_once=1)
    for number in range(20):
        ticket = queue.enter(Visitor(f"tab {number}", "192.0.2.1"))
        clock.now += 0.5
        queue.leave(ticket, measured=False)
    running = queue.enter(visitor(2))
    again, other = queue.enter(visitor(1)), queue.enter(visitor(3))
    assert whose_turn(queue, [running, again, other]) == [running, other, again]


def test_somebody_who_asks_as_others_do_is_not_put_behind() -> None:
    queue, clock = timed_queue(at_once=1)
    for number in (1, 2, 3, 1):  # one of them asks twice
        with queue.enter(visitor(number)):
            clock.now += 2
    running = queue.enter(visitor(4))
    twice, new = queue.enter(visitor(1)), queue.enter(visitor(5))
    assert whose_turn(queue, [running, twice, new]) == [running, twice, new]


def test_one_that_has_become_long_gives_way_before_a_later_step() -> None:
    queue, clock = timed_queue(at_once=1)
    long, short = queue.enter(visitor(1)), queue.enter(visitor(2))
    clock.now += 5
    long.give_way()
    assert long.wait(0)
    clock.now += 15
    left = threading.Event()
    left.set()
    long.give_way(left.is_set)
    assert short.wait(0)
    assert is_paused(long)


def test_a_person_who_had_more_than_a_share_holds_up_nobody_behind_a_paused_judgement() -> None:
    queue, clock = timed_queue(at_once=1)
    person = Visitor("tab", "192.0.2.9", person=7)
    asked = queue.enter(person)
    clock.now += 60
    queue.leave(asked, measured=False)
    for number in range(10, 20):
        with queue.enter(visitor(number)):
            clock.now += 1
    long = queue.enter(visitor(1))
    clock.now += 30
    short = queue.enter(visitor(2))
    again, other = queue.enter(person), queue.enter(visitor(3))
    assert is_paused(long)
    queue.leave(short)
    assert other.wait(0)
    assert not again.wait(0)
