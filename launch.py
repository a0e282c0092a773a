"""Start the studio on a machine that has nothing but Python: set up once, then serve, test, or run any `studio` command."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "studio-setup.json"
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST, NEWEST = (3, 11), (3, 13)
TORCH_FAMILY = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
"""Pins that give way when TORCH_COMMAND brings its own torch; a trailing hyphen means every name that begins so."""
BROWSERS = ("chromium", "google-chrome", "chrome", "msedge")
EMOJI_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""What the tiny world draws with; only its tests and its training need it."""
APT_PACKAGES = ("chromium", "chromium-driver", "fonts-noto-color-emoji")


class SetupError(Exception):
    """Set-up cannot go on; the text says why and what to do."""


def split(text):
    """A line of arguments as a list, quoted as on this system."""
    return shlex.split(text, posix=os.name != "nt")


def say(text):
    """One line to the person who is waiting."""
    print(text, flush=True)


def check_python(version=None):
    """Refuse a Python that the pinned packages are not made for; raises SetupError."""
    seen = tuple(version or sys.version_info[:2])
    if not OLDEST <= seen <= NEWEST:
        raise SetupError(
            "The studio needs Python {}.{} to {}.{}, and this is Python {}.{} ({}). Install one of those and start again with it, for example: python3.12 launch.py".format(
                *OLDEST, *NEWEST, *seen, sys.executable
            )
        )


def venv_python():
    """The interpreter inside .venv."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def read_stamp():
    """What the last finished set-up wrote down; empty when there was none."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def fingerprint(torch):
    """What an installation depends on, as a hash: where it lies, pins, ranges and the choice of torch."""
    digest = hashlib.sha256(repr((str(ROOT), torch)).encode())
    for path in (CONSTRAINTS, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def installed(extra, torch):
    """Whether .venv holds what is wanted; `extra` is "" or "test"."""
    stamp = read_stamp()
    return venv_python().exists() and stamp.get("fingerprint") == fingerprint(torch) and (not extra or stamp.get("extra") == extra)


def make_venv():
    """Make .venv with this Python, unless a usable one is there; raises SetupError."""
    if venv_python().exists():
        check = "import sys, pip; sys.exit(not {} <= sys.version_info[:2] <= {})".format(OLDEST, NEWEST)
        if subprocess.run([str(venv_python()), "-c", check], capture_output=True, check=False).returncode == 0:
            return
    say("Making .venv with Python {}.{} ...".format(*sys.version_info[:2]))
    try:
        venv.EnvBuilder(with_pip=True, clear=VENV.exists(), symlinks=os.name != "nt").create(str(VENV))
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"Making {VENV} failed ({error}). On Debian and Ubuntu, install python3-venv; otherwise check that the folder can be written, then start again.") from error


def installer():
    """The command that installs packages: uv where it can be had, else pip."""
    python = str(venv_python())
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--quiet", "--constraint", str(CONSTRAINTS), "uv"], check=False).returncode == 0:
        return [python, "-m", "uv", "pip", "install", "--compile-bytecode", "--python", python], pip
    return pip, pip


def install(words, commands):
    """Install with the first command that can; raises SetupError when none does."""
    tried = []
    for command in commands:
        if command in tried:
            continue
        if tried:
            say("uv could not do it (above); trying again with pip ...")
        if subprocess.run([*command, *words], cwd=str(ROOT), check=False).returncode == 0:
            return
        tried.append(command)
    raise SetupError("Installing the packages failed; the lines above say why (often: no network, or a full disk). Start again when that is mended: what was fetched is kept.")


def torch_words():
    """TORCH_COMMAND as pip arguments, with or without a leading `pip install`; when unset, what it was at the last set-up."""
    if "TORCH_COMMAND" not in os.environ:
        return read_stamp().get("torch", [])
    words = split(os.environ["TORCH_COMMAND"])
    return words[2:] if words[:2] == ["pip", "install"] else words


def is_torch(line):
    """Whether a line of constraints.txt pins torch or something that comes with it."""
    name = line.split("==")[0].strip().lower()
    return any(name.startswith(word) if word.endswith("-") else name == word for word in TORCH_FAMILY)


def own_torch(torch, commands):
    """Install torch with these pip arguments; returns a constraints file that keeps it."""
    install(torch, commands)
    ask = "from importlib.metadata import distributions as d; print(*{f'{x.name}=={x.version}' for x in d()}, sep='\\n')"
    here = subprocess.run([str(venv_python()), "-c", ask], capture_output=True, text=True, check=True).stdout.splitlines()
    if not any(line.lower().startswith("torchvision==") for line in here):
        raise SetupError('TORCH_COMMAND brought no torchvision, and each torch needs the one made for it. Name both, for example: TORCH_COMMAND="torch torchvision --index-url ADDRESS"')
    kept = [line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if not is_torch(line)]
    constraints = VENV / "constraints.txt"
    constraints.write_text("\n".join([*kept, *sorted(filter(is_torch, here))]) + "\n", encoding="utf-8")
    return constraints


def set_up(extra=""):
    """Make .venv and install everything, unless that was done; `extra` is "" or "test"."""
    torch = torch_words()
    if installed(extra, torch):
        return
    check_python()
    make_venv()
    STAMP.unlink(missing_ok=True)
    say("Installing the packages (once; some minutes and some GB) ...")
    commands = installer()
    constraints = own_torch(torch, commands) if torch else CONSTRAINTS
    install(["--constraint", str(constraints), "--editable", f".[{extra}]" if extra else "."], commands)
    unfinished = STAMP.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"fingerprint": fingerprint(torch), "extra": extra, "torch": torch}), encoding="utf-8")
    unfinished.replace(STAMP)


def is_debian():
    """Whether apt's chromium is a real browser here (on Ubuntu it is a pointer to a snap)."""
    try:
        return "ID=debian" in Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False


def find_browser():
    """A Chromium that the browser tests can drive, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def get_browser():
    """Install a headless Chromium and the emoji font when there are none: from Debian where this is Debian, else Playwright's own browser; raises SetupError."""
    if find_browser() and (EMOJI_FONT.is_file() or not is_debian()):
        return
    if not (is_debian() and shutil.which("apt-get")):
        if subprocess.run([str(venv_python()), "-m", "playwright", "install", "chromium"], check=False).returncode:
            raise SetupError("The browser tests need Chromium, and Playwright could not fetch it (above). Install Chromium or Chrome and start again.")
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and not shutil.which("sudo"):
        raise SetupError("The browser tests need Chromium. As root, run: apt-get install {}".format(" ".join(APT_PACKAGES)))
    say("Installing Chromium for the browser tests ...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    steps = (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *APT_PACKAGES])
    for step in steps:
        if subprocess.run([*root, "apt-get", *step], env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
            raise SetupError("Chromium could not be installed (above). As root, run: apt-get install {}".format(" ".join(APT_PACKAGES)))


def become(words):
    """Run .venv's Python with these words in the place of this process; returns its exit code where a process cannot be replaced."""
    command = [str(venv_python()), *words]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child got it too and ends in its own way
            continue


def plan(words):
    """The words for .venv's Python, by what was typed after launch.py."""
    if words[:1] == ["test"]:
        return ["-m", "pytest", *words[1:]] if words[1:] else ["tests/whole.py"]
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words = ["serve", *words]
    if words[0] == "serve":
        words = [*words, *split(os.environ.get("COMMANDLINE_ARGS", ""))]
    return ["-m", "studio", *words]


def main(words):
    """Set up what these words need, then run them; returns an exit code."""
    testing = words[:1] == ["test"]
    try:
        set_up("test" if testing else "")
        if testing:
            get_browser()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Set-up was interrupted; start again to go on.", file=sys.stderr)
        return 130
    if testing:
        os.chdir(str(ROOT))
    return become(plan(words))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
