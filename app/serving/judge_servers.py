"""Judging by `descore serve` on other machines: the checkpoint that answers is the servers', and so is its memory.

While no server answers, the model counts as offloaded: pages name the server, open stored judgements, and go on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.serving.serving import Served, Serving
from descore import DeScore
from descore.checkpoints.manifest import Manifest
from descore.engines.server_client import JudgingClient
from descore.engines.server_engine import ServerEngine, server_urls
from descore.errors import CheckpointError, EngineError
from storage import Database
from storage.training.model_registry import BASE, kept_location, promote, promotions, register_checkpoint, usable_location
from storage.training.model_registry import serving as last_promoted

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
_KNOWN = "judge_servers.json"  # in the data folder: the description of the checkpoint that the servers served last


class JudgeServers:
    """The addresses of some servers, and what has to be said to all of them."""

    def __init__(self, urls: Sequence[str], token: str | None) -> None:
        """Take the addresses; commas separate several.

        Raises:
            EngineError: there is none, or one is no address.
        """
        self._urls, self._token = server_urls(urls), token
        for client in self._clients():
            client.close()

    def __len__(self) -> int:
        return len(self._urls)

    def connect(self, fingerprint: str | None = None) -> ServerEngine:
        """Ask the servers what they serve.

        Args:
            fingerprint: of the checkpoint that has to answer; by default that of the first server that does.

        Raises:
            EngineError: none answers, takes the token or serves that checkpoint.
        """
        return ServerEngine(self._urls, self._token, fingerprint)

    def load(self, location: str, fingerprint: str) -> ServerEngine:
        """Have all servers that answer load a checkpoint and swap. Those that are down load it once they are back.

        Args:
            location: a folder that the servers see too, a Hub id or "bundled".

        Raises:
            CheckpointError: one can't, so that those that did go back; or none answers.
        """
        done: list[tuple[JudgingClient, dict[str, Any]]] = []
        clients = self._clients()
        try:
            for client in clients:
                try:
                    before = client.checkpoint()
                    if before["fingerprint"] != fingerprint:
                        client.load(str(location), fingerprint)
                        done.append((client, before))
                except CheckpointError as error:
                    _put_back(done)
                    raise CheckpointError(f"the checkpoint can't be served: {error}") from error
                except EngineError as error:
                    log.warning("a server could not be asked to load the checkpoint: %s", error)
            return self.connect(fingerprint)
        except EngineError as error:
            raise CheckpointError(str(error)) from error
        finally:
            for client in clients:
                client.close()

    def _clients(self) -> list[JudgingClient]:
        return [JudgingClient(url, self._token) for url in self._urls]


def _put_back(done: Sequence[tuple[JudgingClient, dict[str, Any]]]) -> None:
    for client, before in done:
        try:
            client.load(before["location"], before["fingerprint"])
        except (CheckpointError, EngineError) as error:
            log.error("a server kept another checkpoint than the others: %s", error)


class ServerServing(Serving):
    """The `Serving` of an app whose judgements are made by servers. Threads may share it."""

    elsewhere = True

    def __init__(self, database: Database, servers: JudgeServers) -> None:
        """Ask the servers; where none answers, begin with what is known, and without a model.

        Raises:
            StorageError: the store can't be read or written.
            CheckpointError: neither a server nor the bundled checkpoint can be used.
        """
        self._database, self._servers = database, servers
        self._down: dict[str, str] = {}
        try:
            served, checkpoint_id = self._connected()
        except (EngineError, CheckpointError) as error:
            log.warning("%s", error)
            served, checkpoint_id = self._known(str(error))
        super().__init__(served, checkpoint_id)

    def offload(self, reason: str) -> None:
        """Do nothing: a run on this machine takes no memory from the servers."""

    def restore(self) -> None:
        """Use the servers again, once one answers.

        Raises:
            EngineError, CheckpointError: none does.
        """
        with self._change:
            if self._served.model is None:
                served, checkpoint_id = self._connected()
                self._swap(served, checkpoint_id)
                self._down = {}
                log.info("the servers answer again")

    def look(self) -> None:
        """Ask each server whether it answers, and tell those that came back with another checkpoint what to load."""
        served = self._served
        if served.model is None:
            try:
                self.restore()
            except (EngineError, CheckpointError) as error:
                self._mark_down(str(error))
            return
        engine = served.model.engine
        assert isinstance(engine, ServerEngine)
        down = engine.look()
        if down and self._correct_servers(served):
            down = engine.look()
        self._down = down
        if len(down) == len(self._servers):
            self._mark_down("; ".join(down.values()))

    def notice(self) -> str:
        """Say which servers don't answer while others do; "" where all do, or none."""
        return "; ".join(self._down.values()) if self._served.model is not None else ""

    def _load(self, location: str, fingerprint: str) -> Served:
        return self._served_by(self._servers.load(_seen_everywhere(location), fingerprint), location)

    def _correct_servers(self, served: Served) -> bool:
        """Have servers that serve another checkpoint load the one that serves here; return whether that may have helped."""
        if not self._change.acquire(blocking=False):
            return False  # a promotion is on its way
        try:
            self._servers.load(_seen_everywhere(served.location), served.fingerprint).close()
        except CheckpointError as error:
            log.warning("%s", error)
            return False
        finally:
            self._change.release()
        return True

    def _mark_down(self, reason: str) -> None:
        with self._change:
            if self._served.model is not None or self._served.aside != reason:
                self._swap(replace(self._served, model=None, aside=reason), self._checkpoint_id)

    def _connected(self) -> tuple[Served, int | None]:
        """Return what the servers serve, and its number in the registry.

        What was promoted last is loaded by servers that serve something else; after a start, theirs counts.
        """
        with self._database.read() as session:
            last, newest = last_promoted(session), promotions(session, 1)
        if last is not None and newest and newest[0].action != "start":
            try:
                served = self._load(usable_location(last, self._database.home), last.fingerprint)
                return replace(served, name=last.name), last.id
            except CheckpointError as error:
                log.warning("%s, which was promoted last, can't be served now: %s", last.name, error)
        engine = self._servers.connect()
        location = str(engine.description["location"])
        (self._database.home / _KNOWN).write_text(json.dumps(engine.description), "utf-8")
        served = self._served_by(engine, location)
        with self._database.write() as session:
            known = register_checkpoint(
                session,
                name=served.name,
                location=kept_location(location, self._database.home),
                fingerprint=served.fingerprint,
                metrics=dict(served.manifest.metrics),
                settings=served.manifest.lineage.get("config"),
            )
            if last is None or (last.id != known.id and newest and newest[0].action == "start"):
                promote(session, known.id, "start")
        return replace(served, name=known.name), known.id

    def _known(self, reason: str) -> tuple[Served, int | None]:
        """Return the checkpoint that the servers served last, where it is known, else the bundled one; without a model."""
        try:
            known = json.loads((self._database.home / _KNOWN).read_text("utf-8"))
            manifest = Manifest.from_dict(known["manifest"])
            served = Served(
                known["name"],
                known["location"],
                manifest,
                bool(known["has_reward"]),
                known["fingerprint"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            served = Served.read(BASE)
        with self._database.read() as session:
            last = last_promoted(session)
        same = last is not None and last.fingerprint == served.fingerprint
        return replace(served, aside=reason), last.id if last is not None and same else None

    @staticmethod
    def _served_by(engine: ServerEngine, location: str) -> Served:
        judge = DeScore(engine)
        return Served(judge.name, location, judge.manifest, judge.has_reward, engine.fingerprint, judge)


def _seen_everywhere(location: str) -> str:
    """Return a folder's whole path: servers don't run where the app does."""
    return str(Path(location).resolve()) if location != BASE and Path(location).is_dir() else location
