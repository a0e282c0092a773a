"""launch.py: what it does before anything is installed, and that it does it once."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A launch.py of its own that believes it lies in an empty folder with the project's pins."""
    spec = importlib.util.spec_from_file_location("launch_under_test", ROOT / "launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "studio-setup.json")
    monkeypatch.setattr(module, "CONSTRAINTS", tmp_path / "constraints.txt")
    for name in ("TORCH_COMMAND", "COMMANDLINE_ARGS"):
        monkeypatch.delenv(name, raising=False)
    return module


class Machine:
    """Stands in for subprocess.run: keeps every command, and fails those that hold a word of `broken`."""

    def __init__(self, launch: ModuleType) -> None:
        self.launch, self.commands, self.broken = launch, [], set()
        self.brought = "torch==9.9+rocm\ntorchvision==0.9+rocm\n"

    def run(self, command: list[str], **_: object) -> SimpleNamespace:
        """Pretend to run a command."""
        self.commands.append(command)
        out = f"{self.brought}nvidia-nccl-cu13==9\npillow==1\n" if "importlib.metadata" in command[-1] else ""
        return SimpleNamespace(returncode=int(bool(self.broken & set(command))), stdout=out, stderr="")

    def make_venv(self) -> None:
        """Pretend to make .venv."""
        self.launch.venv_python().parent.mkdir(parents=True, exist_ok=True)
        self.launch.venv_python().touch()

    def installs(self) -> list[list[str]]:
        """The commands that installed the studio itself."""
        return [command for command in self.commands if "--editable" in command]


@pytest.fixture
def machine(launch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Nothing is really run or installed."""
    pretend = Machine(launch)
    monkeypatch.setattr(launch, "subprocess", SimpleNamespace(run=pretend.run, CalledProcessError=subprocess.CalledProcessError, DEVNULL=None))
    monkeypatch.setattr(launch, "make_venv", pretend.make_venv)
    return pretend


def test_it_needs_the_standard_library_only() -> None:
    tree = ast.parse((ROOT / "launch.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)


def test_an_old_python_can_read_it_far_enough_to_refuse() -> None:
    assert ast.parse((ROOT / "launch.py").read_text(encoding="utf-8"), feature_version=(3, 7))


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14), (4, 0)])
def test_another_python_is_refused_with_a_sentence(launch: ModuleType, version: tuple[int, int]) -> None:
    with pytest.raises(launch.SetupError, match=rf"needs Python 3\.11 to 3\.13, and this is Python {version[0]}\.{version[1]} "):
        launch.check_python(version)


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_the_right_pythons_are_taken(launch: ModuleType, version: tuple[int, int]) -> None:
    assert launch.check_python(version) is None


def test_the_range_of_pythons_is_the_one_of_the_project(launch: ModuleType) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={launch.OLDEST[0]}.{launch.OLDEST[1]},<{launch.NEWEST[0]}.{launch.NEWEST[1] + 1}"' in text


@pytest.mark.parametrize(
    ("typed", "run"),
    [
        ([], ["-m", "studio", "serve", "--listen"]),
        (["--port", "9000"], ["-m", "studio", "serve", "--port", "9000", "--listen"]),
        (["serve", "--no-browser"], ["-m", "studio", "serve", "--no-browser", "--listen"]),
        (["generate", "--prompt", "a cat"], ["-m", "studio", "generate", "--prompt", "a cat"]),
        (["--help"], ["-m", "studio", "--help"]),
        (["test"], ["tests/whole.py"]),
        (["test", "-q", "tests/test_jobs.py"], ["-m", "pytest", "-q", "tests/test_jobs.py"]),
    ],
)
def test_words_are_handed_on(launch: ModuleType, monkeypatch: pytest.MonkeyPatch, typed: list[str], run: list[str]) -> None:
    monkeypatch.setenv("COMMANDLINE_ARGS", "--listen")
    assert launch.plan(typed) == run


def test_a_second_start_installs_nothing(launch: ModuleType, machine: Machine) -> None:
    launch.set_up()
    assert machine.installs()[0][-1] == "."
    machine.commands.clear()
    launch.set_up()
    assert machine.commands == []


def test_the_tests_add_their_tools_once_and_serving_then_needs_nothing(launch: ModuleType, machine: Machine) -> None:
    launch.set_up()
    launch.set_up("test")
    assert machine.installs()[-1][-1] == ".[test]"
    machine.commands.clear()
    launch.set_up("test")
    launch.set_up()
    assert machine.commands == []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_new_pins_are_installed(launch: ModuleType, machine: Machine, name: str) -> None:
    launch.set_up()
    with (launch.ROOT / name).open("a", encoding="utf-8") as file:
        file.write("# newer\n")
    machine.commands.clear()
    launch.set_up()
    assert len(machine.installs()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "of another time"}'])
def test_a_damaged_stamp_means_setting_up_again(launch: ModuleType, machine: Machine, text: str) -> None:
    launch.set_up()
    launch.STAMP.write_text(text, encoding="utf-8")
    machine.commands.clear()
    launch.set_up()
    assert len(machine.installs()) == 1
    assert json.loads(launch.STAMP.read_text(encoding="utf-8"))["extra"] == ""


def test_the_pins_are_used_and_uv_comes_first(launch: ModuleType, machine: Machine) -> None:
    launch.set_up()
    command = machine.installs()[0]
    assert command[1:4] == ["-m", "uv", "pip"]
    assert command[command.index("--constraint") + 1] == str(launch.CONSTRAINTS)


def test_pip_does_it_when_uv_cannot_be_had(launch: ModuleType, machine: Machine) -> None:
    machine.broken = {"uv"}
    launch.set_up()
    assert [command[1:4] for command in machine.installs()] == [["-m", "pip", "install"]]


def test_pip_does_it_when_uv_fails(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "installer", lambda: [["python", "-m", "uv"], ["python", "-m", "pip"]])
    machine.broken = {"uv"}
    launch.set_up()
    assert [command[2] for command in machine.installs()] == ["uv", "pip"]
    assert launch.installed("", [])


def test_a_failed_installation_is_told_and_tried_again_next_time(launch: ModuleType, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.broken = {"--editable"}
    assert launch.main([]) == 2
    assert "Installing the packages failed" in capsys.readouterr().err
    assert not launch.installed("", [])
    machine.broken = set()
    launch.set_up()
    assert launch.installed("", [])


def test_a_torch_of_ones_own_is_installed_first_and_kept(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_COMMAND", "pip install torch torchvision --index-url https://example.org/rocm")
    launch.set_up()
    assert machine.commands[1][-4:] == ["torch", "torchvision", "--index-url", "https://example.org/rocm"]
    command = machine.installs()[0]
    pins = Path(command[command.index("--constraint") + 1]).read_text(encoding="utf-8").splitlines()
    assert [pin for pin in pins if launch.is_torch(pin)] == ["nvidia-nccl-cu13==9", "torch==9.9+rocm", "torchvision==0.9+rocm"]
    assert "pillow==1" not in pins
    machine.commands.clear()
    monkeypatch.delenv("TORCH_COMMAND")
    launch.set_up()
    assert machine.commands == [], "a start without the variable must not put another torch in its place"
    monkeypatch.setenv("TORCH_COMMAND", "")
    launch.set_up()
    assert machine.installs()[-1][machine.installs()[-1].index("--constraint") + 1] == str(launch.CONSTRAINTS)


def test_a_torch_without_its_torchvision_is_refused(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_COMMAND", "torch==9.9")
    machine.brought = "torch==9.9\n"
    with pytest.raises(launch.SetupError, match="no torchvision"):
        launch.set_up()
    assert machine.installs() == []


@pytest.mark.parametrize(("pin", "is_one"), [("torch==2.14.1", True), ("nvidia-nvtx==13", True), ("triton==3", True), ("torchmetrics==1", False), ("open-clip-torch==3", False), ("# torch", False)])
def test_which_pins_give_way_to_another_torch(launch: ModuleType, pin: str, is_one: bool) -> None:
    assert launch.is_torch(pin) is is_one


def pretend_debian(launch: ModuleType, monkeypatch: pytest.MonkeyPatch, programs: set[str], user: int) -> None:
    """A Debian without a browser, with these programs and this user id."""
    monkeypatch.setattr(launch, "is_debian", lambda: True)
    monkeypatch.setattr(launch.shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None)
    monkeypatch.setattr(launch.os, "geteuid", lambda: user, raising=False)


def test_a_browser_without_the_font_is_completed(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_debian(launch, monkeypatch, {"chromium", "apt-get"}, 0)
    monkeypatch.setattr(launch, "EMOJI_FONT", Path("missing.ttf"))
    launch.get_browser()
    assert "fonts-noto-color-emoji" in machine.commands[-1]


def test_a_browser_that_is_there_is_not_installed(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_debian(launch, monkeypatch, {"chromium", "apt-get"}, 0)
    monkeypatch.setattr(launch, "EMOJI_FONT", Path(__file__))
    launch.get_browser()
    assert machine.commands == []


@pytest.mark.parametrize(("user", "prefix"), [(0, []), (1000, ["sudo", "-n"])])
def test_debian_gives_its_chromium(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch, user: int, prefix: list[str]) -> None:
    pretend_debian(launch, monkeypatch, {"apt-get", "sudo"}, user)
    launch.get_browser()
    assert [command[: len(prefix) + 2] for command in machine.commands] == [[*prefix, "apt-get", "update"], [*prefix, "apt-get", "install"]]
    assert set(launch.APT_PACKAGES) < set(machine.commands[1])


@pytest.mark.parametrize(("programs", "broken"), [({"apt-get"}, set()), ({"apt-get", "sudo"}, {"install"})])
def test_no_browser_is_a_sentence_with_the_command(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch, programs: set[str], broken: set[str]) -> None:
    pretend_debian(launch, monkeypatch, programs, 1000)
    machine.broken = broken
    with pytest.raises(launch.SetupError, match="apt-get install chromium chromium-driver fonts-noto-color-emoji"):
        launch.get_browser()


def test_elsewhere_playwright_brings_its_own(launch: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_debian(launch, monkeypatch, set(), 1000)
    launch.get_browser()
    assert machine.commands == [[str(launch.venv_python()), "-m", "playwright", "install", "chromium"]]
    machine.broken = {"playwright"}
    with pytest.raises(launch.SetupError, match="Install Chromium or Chrome"):
        launch.get_browser()


def test_windows_has_its_interpreter_elsewhere(launch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "os", SimpleNamespace(name="nt"))
    assert launch.venv_python().as_posix().endswith(".venv/Scripts/python.exe")
    assert launch.split(r"--data C:\pictures\mine") == ["--data", r"C:\pictures\mine"]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot replace a process; the next test shows what is done there")
def test_the_studio_takes_the_place_of_the_launcher(tmp_path: Path) -> None:
    code = f"import importlib.util as u; s = u.spec_from_file_location('launch', {str(ROOT / 'launch.py')!r}); m = u.module_from_spec(s); s.loader.exec_module(m)\n"
    code += f"import os, sys; m.venv_python = lambda: {sys.executable!r}; print(os.getpid(), flush=True); m.become(['-c', 'import os; print(os.getpid()); raise SystemExit(3)'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert len(set(done.stdout.split())) == 1


def test_where_a_process_cannot_be_replaced_its_exit_code_is_handed_on(launch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "os", SimpleNamespace(name="nt"))
    monkeypatch.setattr(launch, "venv_python", lambda: sys.executable)
    assert launch.become(["-c", "raise SystemExit(7)"]) == 7
