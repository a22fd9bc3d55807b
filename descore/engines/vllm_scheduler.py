"""The thread that drives vLLM, and the calls that hand it requests.

    with scheduler.calls() as calls:            # leaving the block ends what is still running
        calls.submit(0, request, parameters)
        tokens = calls.tokens.get()             # Tokens(key=0, ...), or the exception that ended the engine

All requests of all callers are in vLLM's one batch; vLLM's objects are touched by this thread alone.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from descore.errors import EngineError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Tokens:
    """New tokens of one request.

    Attributes:
        key: the caller's name of the request.
        ids: the new tokens.
        log_probs: for each of them, log-probabilities by token, where they were asked for.
        prompt_ids: the prompt's tokens as vLLM made them, with the first tokens of a request.
        finished: there will be no more.
    """

    key: int
    ids: tuple[int, ...]
    log_probs: tuple[dict[int, float], ...]
    prompt_ids: list[int] | None
    finished: bool


class Calls:
    """The requests of one caller.

    Attributes:
        tokens: what vLLM makes of them, in the order in which it comes.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.tokens: queue.Queue[Tokens | BaseException] = queue.Queue()
        self.running: dict[str, int] = {}
        self._scheduler = scheduler

    def submit(self, key: int, request: dict[str, Any], parameters: Any) -> None:
        """Hand over a request; its tokens come under `key`."""
        self._scheduler.put(("add", self, key, request, parameters))


class Scheduler:
    """One thread around one `vllm.LLM`."""

    def __init__(self, llm: Any) -> None:
        self._llm, self._engine = llm, llm.llm_engine
        self._orders: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self._owners: dict[str, Calls] = {}
        self._numbers = itertools.count()
        self._closed: BaseException | None = None
        # A new thread would use the first GPU, whichever this process works on.
        self._device = torch.cuda.current_device() if torch.cuda.is_available() else None
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._thread.start()

    def put(self, order: tuple[Any, ...]) -> None:
        """Queue an order for the thread.

        Raises:
            EngineError: the engine has ended.
        """
        if self._closed is not None:
            raise EngineError(f"vLLM has ended ({self._closed}); load the checkpoint again")
        self._orders.put(order)

    @contextlib.contextmanager
    def calls(self) -> Iterator[Calls]:
        """Open the requests of one caller, and end those that still run when the block is left."""
        calls = Calls(self)
        try:
            yield calls
        finally:
            if self._closed is None:
                self._orders.put(("abort", calls))

    def run(self, work: Callable[[Any], Result]) -> Result:
        """Let the thread call `work` with the `vllm.LLM`, between two steps; return or raise what that does."""
        done: Future[Result] = Future()
        self.put(("run", work, done))
        return done.result()

    def close(self) -> None:
        """End the thread and let go of vLLM."""
        if self._closed is None:
            self._orders.put(("close",))
        if threading.current_thread() is not self._thread:
            self._thread.join()
        core = getattr(self._engine, "engine_core", None)
        if core is not None:
            core.shutdown()
        self._llm = self._engine = None

    def _run(self) -> None:
        try:
            if self._device is not None:
                torch.cuda.set_device(self._device)
            while self._serve_orders():
                for output in self._engine.step():
                    self._deliver(output)
        except BaseException as error:  # callers must not wait for ever, whatever happened
            self._end(error)

    def _serve_orders(self) -> bool:
        """Carry out what was ordered, waiting while there is nothing to do; False at the end."""
        while True:
            idle = not self._engine.has_unfinished_requests()
            try:
                kind, *rest = self._orders.get(block=idle)
            except queue.Empty:
                return True
            if kind == "close":
                self._end(EngineError("it was closed"))
                return False
            if kind == "abort":
                self._abort(*rest)
            elif kind == "run":
                self._work(*rest)
            else:
                self._add(*rest)

    def _add(self, calls: Calls, key: int, request: dict[str, Any], parameters: Any) -> None:
        name = f"{next(self._numbers)}"
        try:
            self._engine.add_request(name, request, parameters)
        except Exception as error:  # one request that vLLM refuses costs its caller alone
            calls.tokens.put(error)
            return
        calls.running[name] = key
        self._owners[name] = calls

    def _work(self, work: Callable[[Any], Any], done: Future[Any]) -> None:
        try:
            done.set_result(work(self._llm))
        except BaseException as error:  # it is the caller's
            done.set_exception(error)

    def _abort(self, calls: Calls) -> None:
        names = list(calls.running)
        if names:
            self._engine.abort_request(names)
        for name in names:
            self._forget(name)

    def _deliver(self, output: Any) -> None:
        calls = self._owners.get(output.request_id)
        if calls is None:  # ended by its caller in the meantime
            return
        key = calls.running[output.request_id]
        (completion,) = output.outputs
        log_probs = tuple(
            {token: value.logprob for token, value in position.items()} for position in completion.logprobs or ()
        )
        calls.tokens.put(
            Tokens(key, tuple(completion.token_ids), log_probs, list(output.prompt_token_ids or []), output.finished)
        )
        if output.finished:
            self._forget(output.request_id)

    def _forget(self, name: str) -> None:
        self._owners.pop(name).running.pop(name)

    def _end(self, error: BaseException) -> None:
        self._closed = error
        for calls in set(self._owners.values()):
            calls.tokens.put(error)
        while True:  # who ordered in the last moment
            try:
                kind, *rest = self._orders.get_nowait()
            except queue.Empty:
                return
            if kind == "add":
                rest[0].tokens.put(error)
            elif kind == "run":
                rest[1].set_exception(error)
