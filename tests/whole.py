"""The whole suite at once: what a browser clicks, which mostly waits, beside all the rest, a file at a time on the other cores. Exits with what pytest exits with."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PYTEST = [sys.executable, "-m", "pytest"]
PATIENT = {"GOMP_SPINCOUNT": "2000", **os.environ}
"""Threads of torch that wait for each other give their core to the other process, as the worker's do (`ARCHITECTURE.md`)."""


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
SPREAD = ["-n", str(max(2, CORES - 1)), "--dist", "loadfile", "--no-loadscope-reorder"]
"""The rest on every core but the one that the browser's tests have, each file in one process."""
SINGLE = {**PATIENT, "OMP_NUM_THREADS": "1"}
"""Where every core has a process of its own, threads within one only wait for each other."""


def main() -> int:
    """Run both; what the browser's tests said stands below the rest."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        clicking = subprocess.Popen([*PYTEST, "tests/browser", "-p", "no:cacheprovider"], cwd=REPO, env=PATIENT, stdout=said, stderr=subprocess.STDOUT)
        try:
            rest = subprocess.run([*PYTEST, *SPREAD, "--ignore=tests/browser"], cwd=REPO, env=SINGLE, check=False).returncode
            clicked = clicking.wait()
        finally:
            clicking.terminate()
        said.seek(0)
        sys.stdout.write(f"\nThe tests in a browser:\n{said.read()}")
    return rest or clicked


if __name__ == "__main__":
    raise SystemExit(main())
