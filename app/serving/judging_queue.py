"""The queue before the model: who judges next, how many may wait, and how long it will take.

    queue = JudgingQueue()
    with queue.enter(Visitor(session="tab", address="192.0.2.1")) as ticket:
        while not ticket.wait(1.0):              # seconds; True once it is this visitor's turn
            print(ticket.place)                  # Place(number=2, seconds=6.1)
        for word in "a small thought".split():   # judge; leaving the block lets the next one in
            ticket.give_way()                    # before each step: waits while somebody else goes first

People who are signed in come before visitors who are not. Among equals it goes by turns: a visitor's second judgement
stands behind the first of everybody else, so that many of one visitor don't hold up the others. Networks take turns in the
same way, since anybody can open many sessions from one address.

Judgements differ in length, sixteen thoughts from one. So the model's time is counted for each network and account, and
forgotten by and by. One that has had more than its share lately is behind everybody else, and is paused where it runs as
soon as somebody else comes. Answers from the store never wait.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Set
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from storage.accounts.attempts import source_of

AT_ONCE = 2  # until an engine says how many it gains from
# Waiting or being judged at a time: a visitor has two tabs or a small program, a network may be a whole office.
MOST_OF_SESSION, MOST_OF_NETWORK, MOST_OF_PERSON, MOST_IN_ALL = 3, 8, 8, 120
_MEASURED = 20  # judgements that the expected time is the mean of
# Begun and not at their end: a paused one keeps its memory, and one of several thoughts has that of as many rows.
MOST_PAUSED, MOST_LARGE = 8, 2
HALF_LIFE = 60.0  # seconds in which half of the time that was used is forgotten
# More than one's share: so many times the mean of the others who asked lately, and more than so many usual judgements. Less
# would put people behind who ask twice in a minute.
_SHARE, _USUAL = 3.0, 8.0
_LOOK_AGAIN = 0.25  # seconds
_FORGOTTEN = 0.01  # seconds of use; less is nothing


class QueueFullError(RuntimeError):
    """Too many judgements wait already, of this visitor or in all; the message says which, and what to do."""


@dataclass(frozen=True)
class Visitor:
    """Who asks.

    Attributes:
        session: of the browser's tab or of the program.
        address: IP address, as far as it can't be forged.
        person: id of the account that is signed in; None for nobody.
    """

    session: str
    address: str = ""
    person: int | None = None

    @property
    def name(self) -> str:
        """What is counted as one visitor: the account, else session and address."""
        return f"{self.session}@{self.address}" if self.person is None else f"person {self.person}"

    @property
    def origin(self) -> str:
        """What has one decoding process at a time and one quota of uploads: the account, else the network.

        The session is left out, since a reload makes another one; so are the bits of an IPv6 address that its user chooses.
        """
        if self.person is not None or not self.address:
            return self.name
        return source_of(self.address)


class Place(NamedTuple):
    """Where a judgement stands.

    Attributes:
        number: 1 for the next one, 0 for one whose turn it is.
        seconds: until its turn, from those before; None while nothing was timed.
    """

    number: int = 0
    seconds: float | None = None


ITS_TURN = Place()


class Ticket:
    """A judgement's place in the queue; a context manager that gives it back."""

    def __init__(self, queue: JudgingQueue, visitor: Visitor, number: int, ahead: int, large: bool) -> None:
        self.visitor, self.large = visitor, large
        self.ahead = ahead  # how many of the same visitor came before and are still there
        self.number = number  # grows with each arrival, and when one of the same network leaves
        self.seconds = 0.0  # that it ran, up to `since`
        self.since: float | None = None  # it runs and is not paused since then
        self._queue = queue

    def wait(self, seconds: float, until: Callable[[], bool] = bool) -> bool:
        """Wait for the turn, at most so long or until something else is so; return whether it has come.

        Args:
            until: for example `event.is_set` of a cancellation; it is looked at a few times a second.
        """
        return self._queue.wait(self, seconds, until)

    def give_way(self, until: Callable[[], bool] = bool) -> None:
        """Wait as long as the judgement is paused, or until something else is so; call it before each step of the model."""
        self._queue.wait_while_paused(self, until)

    @property
    def place(self) -> Place:
        """Where the judgement stands now."""
        return self._queue.place(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queue.leave(self, measured=kind is None)


class JudgingQueue:
    """The judgements that wait for a model or are being made; threads may share it."""

    def __init__(self, at_once: int = AT_ONCE, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._clock = at_once, clock
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []
        self._running: list[Ticket] = []
        self._paused: list[Ticket] = []
        self._used: dict[str, tuple[float, float]] = {}  # seconds of the model for each origin, and when it was counted
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self._number = 0
        self._looked_at = -math.inf

    def set_at_once(self, at_once: int) -> None:
        """Set how many judgements run at a time; those that already run go on."""
        with self._changed:
            self._at_once = at_once
            self._admit()

    def enter(self, visitor: Visitor, large: bool = False) -> Ticket:
        """Take a place.

        Args:
            large: for a judgement with several thoughts about each video, of which few are begun at a time.

        Raises:
            QueueFullError: this visitor, this network or everybody together has as many as may wait.
        """
        with self._changed:
            self._refuse_too_many(visitor)
            ticket = Ticket(self, visitor, self._number_next(), len(self._own(visitor)), large)
            self._waiting.append(ticket)
            self._admit()
            return ticket

    def wait(self, ticket: Ticket, seconds: float, until: Callable[[], bool] = bool) -> bool:
        """Wait for a ticket's turn; see `Ticket.wait`."""
        ends = time.monotonic() + seconds
        with self._changed:
            while ticket not in self._running and not until():
                left = ends - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, _LOOK_AGAIN))
            return ticket in self._running

    def wait_while_paused(self, ticket: Ticket, until: Callable[[], bool] = bool) -> None:
        """Wait until a ticket is not paused; see `Ticket.give_way`."""
        # Asked at each token, so it has to cost nothing; somebody may have become one to pause since it was looked at last.
        if ticket.since is not None and self._clock() < self._looked_at + _LOOK_AGAIN:
            return
        with self._changed:
            self._admit()
            while ticket in self._paused and not until():
                self._changed.wait(_LOOK_AGAIN)
                self._admit()

    def place(self, ticket: Ticket) -> Place:
        """Return where a ticket stands."""
        with self._changed:
            if ticket not in self._waiting:
                return ITS_TURN
            number = self._order(self._heavy()).index(ticket) + 1
            if not self._seconds:
                return Place(number)
            return Place(number, math.ceil(number / self._at_once) * sum(self._seconds) / len(self._seconds))

    def leave(self, ticket: Ticket, measured: bool = True) -> None:
        """Give a place back, before or after the turn.

        Args:
            measured: the judgement came to its end, so its time counts for what others are told.
        """
        with self._changed:
            if ticket in self._running or ticket in self._paused:
                self._stop(ticket)
                (self._running if ticket in self._running else self._paused).remove(ticket)
                if measured:
                    self._seconds.append(ticket.seconds)
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                return
            for other in self._own(ticket.visitor):
                if other.ahead > ticket.ahead:
                    other.ahead -= 1
            # The network had a turn, so all of it goes behind those who wait now, and keeps its own order.
            for other in self._order(frozenset()):
                if other.visitor.origin == ticket.visitor.origin:
                    other.number = self._number_next()
            self._admit()

    def counts(self) -> tuple[int, int]:
        """Return how many are being judged, paused ones too, and how many wait."""
        with self._changed:
            return len(self._running) + len(self._paused), len(self._waiting)

    # ---- whose turn it is ----------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Let all run that may."""
        self._looked_at = self._clock()
        heavy = self._heavy() if self._waiting or self._paused else frozenset()
        changed = False
        while True:
            first = self._next(heavy)
            if len(self._running) < self._at_once:
                if first is not None:
                    self._waiting.remove(first)
                elif self._paused:
                    first = self._paused.pop(0)
                else:
                    break
            else:
                other = None if first is None else self._in_the_way(first, heavy)
                if first is None or other is None:
                    break
                self._stop(other)
                self._running.remove(other)
                self._paused.append(other)
                self._waiting.remove(first)
            first.since = self._clock()
            self._running.append(first)
            changed = True
        if changed:
            self._changed.notify_all()

    def _next(self, heavy: Set[str]) -> Ticket | None:
        """Return who is first of those that may begin; the heavy ones may not while a paused one is to go on."""
        full = sum(ticket.large for ticket in (*self._running, *self._paused)) >= MOST_LARGE
        for ticket in self._order(heavy):
            if not (full and ticket.large) and not (self._paused and ticket.visitor.origin in heavy):
                return ticket
        return None

    def _in_the_way(self, ticket: Ticket, heavy: Set[str]) -> Ticket | None:
        """Return the running judgement that is paused for one that waits, if there is one."""
        if ticket.visitor.origin in heavy or len(self._paused) >= MOST_PAUSED:
            return None
        for other in self._running:
            lower = ticket.visitor.person is not None or other.visitor.person is None
            if lower and other.visitor.origin in heavy:
                return other
        return None

    def _order(self, heavy: Set[str]) -> list[Ticket]:
        """Sort those who wait.

        Accounts come first, then those who had no more than their share, then it goes by how many of the visitor and of the
        network are ahead, and by number.
        """
        ahead_here = Counter(ticket.visitor.origin for ticket in (*self._running, *self._paused))
        turns: list[tuple[bool, bool, int, int, int, Ticket]] = []
        for ticket in sorted(self._waiting, key=lambda ticket: (ticket.visitor.person is None, ticket.ahead, ticket.number)):
            origin, stranger = ticket.visitor.origin, ticket.visitor.person is None
            turns.append((stranger, origin in heavy, ticket.ahead, ahead_here[origin], ticket.number, ticket))
            ahead_here[origin] += 1
        return [ticket for *_, ticket in sorted(turns, key=lambda turn: turn[:5])]

    # ---- how much of the model's time everybody had --------------------------------------------------------------

    def _stop(self, ticket: Ticket) -> None:
        """Count the time that a ticket ran since it was let in or let on."""
        if ticket.since is None:
            return
        seconds = self._clock() - ticket.since
        ticket.seconds, ticket.since = ticket.seconds + seconds, None
        origin = ticket.visitor.origin
        self._used[origin] = (self._use(origin) + seconds, self._clock())

    def _use(self, origin: str) -> float:
        seconds, at = self._used.get(origin, (0.0, 0.0))
        return float(seconds * 0.5 ** ((self._clock() - at) / HALF_LIFE))

    def _heavy(self) -> Set[str]:
        """Return the origins that have had more than their share of the model's time lately; nobody before it is timed."""
        if not self._seconds:
            return frozenset()
        uses: dict[str, float] = {origin: self._use(origin) for origin in self._used}
        for origin, seconds in uses.items():
            if seconds < _FORGOTTEN:
                del self._used[origin]
        for ticket in self._running:
            if ticket.since is not None:
                uses[ticket.visitor.origin] = uses.get(ticket.visitor.origin, 0.0) + self._clock() - ticket.since
        for ticket in self._waiting:
            uses.setdefault(ticket.visitor.origin, 0.0)
        total, others = sum(uses.values()), max(1, len(uses) - 1)
        usual = _USUAL * statistics.median(self._seconds)
        return frozenset(
            origin for origin, seconds in uses.items() if seconds > max(usual, _SHARE * (total - seconds) / others)
        )

    def _number_next(self) -> int:
        self._number += 1
        return self._number

    def _own(self, visitor: Visitor) -> list[Ticket]:
        """Return the tickets of a visitor, running and waiting."""
        everybody = (*self._running, *self._paused, *self._waiting)
        return [ticket for ticket in everybody if ticket.visitor.name == visitor.name]

    def _refuse_too_many(self, visitor: Visitor) -> None:
        everybody = [ticket.visitor for ticket in (*self._running, *self._paused, *self._waiting)]
        own = len(self._own(visitor))
        most = MOST_OF_SESSION if visitor.person is None else MOST_OF_PERSON
        if own >= most:
            raise QueueFullError(f"{own} of your judgements wait already, which is the most. Let one end, or cancel it.")
        here = sum(other.origin == visitor.origin for other in everybody)
        if visitor.person is None and visitor.address and here >= MOST_OF_NETWORK:
            raise QueueFullError(f"{here} judgements from your network wait already. Sign in, or try again in a minute.")
        if len(everybody) >= MOST_IN_ALL:
            raise QueueFullError(f"{len(everybody)} judgements wait already. Try again in a few minutes.")
