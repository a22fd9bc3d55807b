"""A small Hugging Face Hub in this process: repositories of files with commits, by the Hub's own addresses.

    with hub_server() as hub:
        environment = hub.environment(cache)     # for a process that uses huggingface-hub

It speaks what the client asks for a push and a pull of models and datasets: making a repository or branch, upload modes, LFS
uploads, commits, file listings and downloads by revision. Everything needs the token. Datasets are repositories whose name
begins with "datasets/".
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.helpers.http_server import http_server

if TYPE_CHECKING:
    from starlette.requests import Request

TOKEN = "hf_of_the_tests"


@dataclass
class Repository:
    """Commits by hash (each all files of that moment), and the newest of each branch."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})

    def commit_of(self, revision: str) -> str | None:
        """The hash of a branch or of a commit."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """The repositories by owner/name (of datasets by datasets/owner/name), and what was asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refused_commits: int = 0  # so many commits fail, as when the Hub is down for a moment

    def environment(self, cache: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The environment of a process that takes this for the Hub."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        settings = {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        return {**kept, **settings, **({} if token is None else {"HF_TOKEN": token})}

    def routes(self) -> list[Route]:
        """The addresses, as the client builds them."""
        routes = [
            Route("/api/repos/create", self._create, methods=["POST"]),
            Route("/api/validate-yaml", self._card_is_fine, methods=["POST"]),
            Route("/lfs/{oid}", self._put, methods=["PUT"]),
        ]
        for api, web in (("/api/models", ""), ("/api/datasets", "/datasets")):
            repository = api + "/{owner}/{name}"
            routes += [
                Route(repository + "/branch/{branch}", self._branch, methods=["POST"]),
                Route(repository + "/preupload/{revision}", self._modes, methods=["POST"]),
                Route(repository + "/commit/{revision}", self._commit, methods=["POST"]),
                Route(repository + "/revision/{revision}", self._info),
                Route(repository + "/tree/{revision}", self._tree),
                Route(repository, self._info),
                Route(web + "/{owner}/{name}.git/info/lfs/objects/batch", self._batch, methods=["POST"]),
                Route(web + "/{owner}/{name}/resolve/{revision}/{path:path}", self._file, methods=["GET", "HEAD"]),
            ]
        return routes

    def _repository(self, request: Request) -> Repository | None:
        """The repository that is asked for, if the token is right."""
        self.asked.append(f"{request.method} {request.url.path}")
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return None
        return self.repositories.get(_name(request))

    async def _create(self, request: Request) -> Response:
        asked = await request.json()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"error": "Invalid username or password."}, 401)
        name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
        if asked.get("type") == "dataset":
            name = f"datasets/{name}"
        answer = {"url": f"{self.url}/{name}", "name": name}
        if name in self.repositories:
            return JSONResponse({"error": "You already created this repository", **answer}, 409)
        self.repositories[name] = Repository(bool(asked.get("private")) or asked.get("visibility") == "private")
        return JSONResponse(answer)

    async def _card_is_fine(self, request: Request) -> Response:
        assert (await request.json())["content"].startswith("---")
        return JSONResponse({"warnings": [], "errors": []})

    async def _branch(self, request: Request) -> Response:
        repository = self._repository(request)
        assert repository is not None
        branch = request.path_params["branch"]
        if branch in repository.branches:
            return JSONResponse({"error": "Reference already exists"}, 409)
        repository.branches[branch] = repository.branches["main"]
        return JSONResponse({})

    async def _modes(self, request: Request) -> Response:
        if self._repository(request) is None:
            return JSONResponse({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = (await request.json())["files"]
        modes = {True: "lfs", False: "regular"}
        large = (".safetensors", ".mp4")
        return JSONResponse(
            {
                "files": [
                    {"path": one["path"], "uploadMode": modes[one["path"].endswith(large)], "shouldIgnore": False}
                    for one in files
                ]
            }
        )

    async def _batch(self, request: Request) -> Response:
        asked = await request.json()
        objects = [
            {**one, "authenticated": True, "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _put(self, request: Request) -> Response:
        content = await request.body()
        assert hashlib.sha256(content).hexdigest() == request.path_params["oid"]
        self.blobs[request.path_params["oid"]] = content
        return Response()

    async def _commit(self, request: Request) -> Response:
        repository = self._repository(request)
        assert repository is not None
        if self.refused_commits:
            self.refused_commits -= 1
            return JSONResponse({"error": "Something is wrong with the commit"}, 400)
        branch = request.path_params["revision"]
        files = dict(repository.commits[repository.branches[branch]])
        body = await request.body()
        for line in body.decode().splitlines():
            entry: dict[str, Any] = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commit = hashlib.sha1(body + repository.branches[branch].encode()).hexdigest()
        repository.commits[commit], repository.branches[branch] = files, commit
        url = f"{self.url}/{_name(request)}/commit/{commit}"
        return JSONResponse({"commitUrl": url, "commitOid": commit, "success": True})

    async def _info(self, request: Request) -> Response:
        repository = self._repository(request)
        if repository is None:
            return JSONResponse({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        commit = repository.commit_of(request.path_params.get("revision", "main"))
        if commit is None:
            return JSONResponse({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        name = "{owner}/{name}".format(**request.path_params)
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        return JSONResponse(
            {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": repository.private}
        )

    async def _tree(self, request: Request) -> Response:
        repository = self._repository(request)
        commit = None if repository is None else repository.commit_of(request.path_params["revision"])
        if repository is None or commit is None:
            return JSONResponse({"error": "not found"}, 404, {"X-Error-Code": "RevisionNotFound"})
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in repository.commits[commit].items()
        ]
        return JSONResponse(entries)

    async def _file(self, request: Request) -> Response:
        repository = self._repository(request)
        commit = None if repository is None else repository.commit_of(request.path_params["revision"])
        content = (
            None if repository is None or commit is None else repository.commits[commit].get(request.path_params["path"])
        )
        if content is None:
            return JSONResponse({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": str(commit)}
        return Response(content, headers=headers, media_type="application/octet-stream")


def _name(request: Request) -> str:
    """The name of the repository that an address is about."""
    name = "{owner}/{name}".format(**request.path_params)
    return f"datasets/{name}" if "/datasets/" in request.url.path else name


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve a Hub on a free port until the block ends."""
    hub = Hub()
    with http_server(hub.routes()) as hub.url:
        yield hub
