"""The whole suite on every core at once, a file at a time: what waits, as the tests in a browser do, beside what computes. Exits with what pytest exits with."""

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
SPREAD = ["-n", str(max(2, CORES) + 1), "--dist", "loadfile", "--no-loadscope-reorder", "-p", "no:cacheprovider"]
"""Each file in one process, one process more than cores, as some always wait; `conftest.py` puts the longest files first, so that no core is left with one of them at the end."""
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000", **os.environ, "OMP_NUM_THREADS": "1"}
"""Every core has a process of its own: threads within one would only wait for each other."""


def main() -> int:
    """Run it."""
    return subprocess.run([sys.executable, "-m", "pytest", *SPREAD], cwd=REPO, env=ENVIRONMENT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
