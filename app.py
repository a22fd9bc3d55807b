"""Start the app: `python app.py [--checkpoint NAME_OR_PATH] [--host HOST] [--port PORT]`. Also the entry of a Space."""

from __future__ import annotations

import argparse

from app.studio import Studio

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Judge pairs of generated videos.")
    parser.add_argument("--checkpoint", help="a checkpoint folder, a Hub id, or 'bundled' (default: what was promoted last)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for all)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
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
    Studio.open(arguments.checkpoint, access=arguments.access).launch(host=arguments.host, port=arguments.port)
