"""The browser of the tests: the system's Chromium, else one that can be installed here.

python -m tests.helpers.chromium     # finds or installs one, prints its path; one clear line if it can't
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium that plays H.264: the system's, else Playwright's own."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install() -> None:
    """Try the machine's package manager, then Playwright's download; `find` tells whether one of them worked."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if shutil.which("apt-get") and (not root or shutil.which("sudo")):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
            subprocess.run([*root, "apt-get", *arguments], env=quiet, stdout=subprocess.DEVNULL, check=False)
    if find() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def main() -> int:
    """Find or install; exit code 1 with one line if there is none to be had."""
    if find() is None:
        install()
    path = find()
    print(path or "browser tests need Chromium: install it with the machine's package manager (apt install chromium)")
    return 0 if path else 1


if __name__ == "__main__":
    raise SystemExit(main())
