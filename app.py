"""Start the server where the packages are already installed, as a hosting service does."""

import sys

from studio.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
