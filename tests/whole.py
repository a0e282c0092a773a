"""The whole suite in two processes at the same time: what a browser clicks, which mostly waits, and all the rest. Exits with what pytest exits with."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest"]
PATIENT = {"GOMP_SPINCOUNT": "2000", **os.environ}
"""Threads of torch that wait for each other give their core to the other process, as the worker's do (`ARCHITECTURE.md`)."""


def main() -> int:
    """Run both; what the browser's tests said stands below the rest."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        clicking = subprocess.Popen([*PYTEST, "tests/browser", "-p", "no:cacheprovider"], cwd=REPO, env=PATIENT, stdout=said, stderr=subprocess.STDOUT)
        try:
            rest = subprocess.run([*PYTEST, "--ignore=tests/browser"], cwd=REPO, env=PATIENT, check=False).returncode
            clicked = clicking.wait()
        finally:
            clicking.terminate()
        said.seek(0)
        sys.stdout.write(f"\nThe tests in a browser:\n{said.read()}")
    return rest or clicked


if __name__ == "__main__":
    raise SystemExit(main())
