"""Start the app: `python app.py [--checkpoint NAME_OR_PATH] [--host HOST] [--port PORT]`. Also the entry of a Space.

`python app.py --demo` starts it on a store with made-up people and labels, to look around.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import get_args

with contextlib.suppress(ImportError):  # before torch: on a ZeroGPU Space it makes believe that there is a GPU
    import spaces  # noqa: F401

from app.demo_store import demo_home
from app.web.deployment import SettingError
from descore.engines.engine import EngineName
from descore.errors import CheckpointError, EngineError
from descore.server.config import read_token
from descore.video import VideoError
from storage import StorageError, open_database

# Why the app can't start, in a sentence.
START_ERRORS = (StorageError, CheckpointError, EngineError, VideoError, SettingError)


def main() -> int:
    """Serve until interrupted; returns the exit code: 2 where the app can't start, with the reason on stderr."""
    parser = argparse.ArgumentParser(description="Judge pairs of generated videos.")
    parser.add_argument("--checkpoint", help="a checkpoint folder, a Hub id, or 'bundled' (default: what was promoted last)")
    parser.add_argument(
        "--engine",
        choices=get_args(EngineName),
        default="auto",
        help="who thinks: vLLM, transformers, or vLLM where it and a GPU are there (default: auto)",
    )
    parser.add_argument(
        "--judge",
        action="append",
        metavar="URL",
        help="a `descore serve` that judges in the place of this machine, such as http://gpu-box:8000; may be repeated",
    )
    parser.add_argument("--judge-token-file", type=Path, metavar="FILE", help="its first line is the servers' token")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for all)")
    parser.add_argument("--port", type=int, help="port to listen on (default, or 0: the first free one from 7860)")
    parser.add_argument(
        "--demo", action="store_true", help="look around in a throwaway store with pairs, people, labels and a retrain"
    )
    parser.add_argument("--home", type=Path, metavar="FOLDER", help="the data folder (default: DESCORE_HOME, or the user's)")
    parser.add_argument("--api-docs", action="store_true", help="open FastAPI's description of the addresses at /docs")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--open", dest="access", action="store_const", const="open", help="everybody may judge and vote")
    who.add_argument(
        "--sign-in",
        dest="access",
        action="store_const",
        const="sign-in",
        help="only people with an account may judge and vote (default with PostgreSQL; else --open)",
    )
    arguments = parser.parse_args()
    if arguments.judge and arguments.checkpoint:
        parser.error("the servers of --judge have a checkpoint already: give --checkpoint to `descore serve`")
    if arguments.judge_token_file and not arguments.judge:
        parser.error("--judge-token-file belongs to --judge URL")
    if arguments.home and not arguments.demo:
        os.environ["DESCORE_HOME"] = str(arguments.home.expanduser().absolute())
    # A container is stopped by SIGTERM, which would end the process on the spot: labels are pushed first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        token = read_token(arguments.judge_token_file)
        with demo_home(arguments.home) if arguments.demo else contextlib.nullcontext():
            return serve(arguments, token)
    except KeyboardInterrupt:
        return 130
    except (*START_ERRORS, OSError) as error:  # OSError: no free port, no such address
        print(f"app: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def serve(arguments: argparse.Namespace, token: str | None) -> int:
    """Open the store and serve until interrupted."""
    open_database().close()
    # Gradio and torch take many seconds to load: what is wrong with an option or the store is said before that.
    from app.serving.judge_servers import JudgeServers
    from app.studio import Studio

    servers = JudgeServers(arguments.judge, token) if arguments.judge else None
    studio = Studio.open(arguments.checkpoint, access=arguments.access, servers=servers, engine=arguments.engine)
    try:
        studio.launch(host=arguments.host, port=arguments.port or None, api_docs=arguments.api_docs)
    finally:
        studio.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
