"""The queue before the model: who judges next, how many may wait, and how long it will take.

    queue = JudgingQueue()
    with queue.enter(Visitor(session="tab", address="192.0.2.1")) as ticket:
        while not ticket.wait(1.0):              # seconds; True once it is this visitor's turn
            print(ticket.place)                  # Place(number=2, seconds=6.1)
        ...                                      # judge; leaving the block lets the next one in

People who are signed in come before visitors who are not. Among equals it goes by turns: a visitor's second judgement
stands behind the first of everybody else, so that many of one visitor don't hold up the others. Networks take turns in the
same way, since anybody can open many sessions from one address. Answers from the store never wait.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from storage.accounts.attempts import source_of

# Model calls take turns, so more at once would not be quicker, only later for each of them; two keep the model busy while
# a video is decoded.
AT_ONCE = 2
# Waiting or being judged at a time: a visitor has two tabs or a small program, a network may be a whole office.
MOST_OF_SESSION, MOST_OF_NETWORK, MOST_OF_PERSON, MOST_IN_ALL = 3, 8, 8, 120
_MEASURED = 20  # judgements that the expected time is the mean of


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

    def __init__(self, queue: JudgingQueue, visitor: Visitor, number: int, ahead: int) -> None:
        self.visitor = visitor
        self.ahead = ahead  # how many of the same visitor came before and are still there
        self.number = number  # grows with each arrival, and when one of the same network leaves
        self.began: float | None = None
        self._queue = queue

    def wait(self, seconds: float, until: Callable[[], bool] = bool) -> bool:
        """Wait for the turn, at most so long or until something else is so; return whether it has come.

        Args:
            until: for example `event.is_set` of a cancellation; it is looked at a few times a second.
        """
        return self._queue.wait(self, seconds, until)

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
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self._number = 0

    def enter(self, visitor: Visitor) -> Ticket:
        """Take a place.

        Raises:
            QueueFullError: this visitor, this network or everybody together has as many as may wait.
        """
        with self._changed:
            self._refuse_too_many(visitor)
            ticket = Ticket(self, visitor, self._number_next(), len(self._own(visitor)))
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
                self._changed.wait(min(left, 0.25))
            return ticket in self._running

    def place(self, ticket: Ticket) -> Place:
        """Return where a ticket stands."""
        with self._changed:
            if ticket not in self._waiting:
                return ITS_TURN
            number = self._order().index(ticket) + 1
            if not self._seconds:
                return Place(number)
            return Place(number, math.ceil(number / self._at_once) * sum(self._seconds) / len(self._seconds))

    def leave(self, ticket: Ticket, measured: bool = True) -> None:
        """Give a place back, before or after the turn.

        Args:
            measured: the judgement came to its end, so its time counts for what others are told.
        """
        with self._changed:
            if ticket in self._running:
                self._running.remove(ticket)
                if measured and ticket.began is not None:
                    self._seconds.append(self._clock() - ticket.began)
            elif ticket in self._waiting:
                self._waiting.remove(ticket)
            else:
                return
            for other in self._own(ticket.visitor):
                if other.ahead > ticket.ahead:
                    other.ahead -= 1
            # The network had a turn, so all of it goes behind those who wait now, and keeps its own order.
            for other in self._order():
                if other.visitor.origin == ticket.visitor.origin:
                    other.number = self._number_next()
            self._admit()

    def counts(self) -> tuple[int, int]:
        """Return how many are being judged and how many wait."""
        with self._changed:
            return len(self._running), len(self._waiting)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            ticket = self._order()[0]
            self._waiting.remove(ticket)
            ticket.began = self._clock()
            self._running.append(ticket)
        self._changed.notify_all()

    def _order(self) -> list[Ticket]:
        """Sort those who wait: accounts first, then by how many of the visitor and of the network are ahead, by number."""
        ahead_here = Counter(ticket.visitor.origin for ticket in self._running)
        turns: list[tuple[bool, int, int, int, Ticket]] = []
        for ticket in sorted(self._waiting, key=lambda ticket: (ticket.visitor.person is None, ticket.ahead, ticket.number)):
            origin = ticket.visitor.origin
            turns.append((ticket.visitor.person is None, ticket.ahead, ahead_here[origin], ticket.number, ticket))
            ahead_here[origin] += 1
        return [ticket for *_, ticket in sorted(turns, key=lambda turn: turn[:4])]

    def _number_next(self) -> int:
        self._number += 1
        return self._number

    def _own(self, visitor: Visitor) -> list[Ticket]:
        """Return the tickets of a visitor, running and waiting."""
        return [ticket for ticket in (*self._running, *self._waiting) if ticket.visitor.name == visitor.name]

    def _refuse_too_many(self, visitor: Visitor) -> None:
        everybody = [ticket.visitor for ticket in (*self._running, *self._waiting)]
        own = len(self._own(visitor))
        most = MOST_OF_SESSION if visitor.person is None else MOST_OF_PERSON
        if own >= most:
            raise QueueFullError(f"{own} of your judgements wait already, which is the most. Let one end, or cancel it.")
        here = sum(other.origin == visitor.origin for other in everybody)
        if visitor.person is None and visitor.address and here >= MOST_OF_NETWORK:
            raise QueueFullError(f"{here} judgements from your network wait already. Sign in, or try again in a minute.")
        if len(everybody) >= MOST_IN_ALL:
            raise QueueFullError(f"{len(everybody)} judgements wait already. Try again in a few minutes.")
