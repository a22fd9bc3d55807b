"""The options of `descore serve`; the server and its libraries are imported when it starts."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import get_args

from descore.engines.engine import EngineName
from descore.errors import EngineError

_NEEDS = ("fastapi", "uvicorn", "prometheus_client")


def add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `descore`."""
    serve = commands.add_parser("serve", help="judge over HTTP, for apps and programs on other machines")
    serve.add_argument("--checkpoint", default="bundled", help="folder, Hub id (owner/name@revision) or 'bundled'")
    serve.add_argument(
        "--engine", choices=get_args(EngineName), default="auto", help="who thinks (default: vLLM where it and CUDA are)"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s; 0.0.0.0 for all)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s; 0 for a free one)")
    serve.add_argument(
        "--token-file", type=Path, metavar="FILE", help="its first line is the bearer token; needed beyond this machine"
    )
    serve.add_argument("--store", type=Path, metavar="FOLDER", help="keeps uploaded videos (default: until the server ends)")
    serve.add_argument("--store-gb", type=float, default=20.0, help="of videos on disk (default: %(default)g)")
    serve.add_argument("--file-mb", type=float, default=512.0, help="of one video at most (default: %(default)g)")
    serve.add_argument("--rows", type=int, default=256, help="videos of one request at most (default: %(default)d)")
    serve.add_argument("--at-once", type=int, help="requests judged at a time (default: what suits the engine)")
    serve.add_argument("--waiting", type=int, default=64, help="requests that may wait (default: %(default)d)")
    serve.add_argument("--end-with-input", action="store_true", help="end when standard input does, with its writer")
    serve.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """Serve as the options say, until a signal; returns the exit code.

    Raises:
        EngineError: a library is missing, or others could reach the server without a token.
        CheckpointError: the checkpoint can't be used.
    """
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(f"serving needs {', '.join(missing)}: pip install 'descore-studio[serve]'")
    from descore.server.config import GB, MB, ServerConfig, read_token
    from descore.server.run import serve

    for name in ("store_gb", "file_mb", "rows", "at_once", "waiting"):
        if (value := getattr(options, name)) is not None and value <= 0:
            raise EngineError(f"--{name.replace('_', '-')} must be above 0, not {value:g}")
    return serve(
        ServerConfig(
            checkpoint=options.checkpoint,
            engine=options.engine,
            host=options.host,
            port=options.port,
            token=read_token(options.token_file),
            store=options.store,
            store_bytes=round(options.store_gb * GB),
            file_bytes=round(options.file_mb * MB),
            rows=options.rows,
            at_once=options.at_once,
            waiting=options.waiting,
        ),
        options.end_with_input,
    )
