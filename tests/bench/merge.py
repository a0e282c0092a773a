"""What a merge of SDXL checkpoints takes: memory of a process of its own, against the size of one model.

`python -m tests.bench.merge [--quick] [--json]`: two synthetic checkpoints with the names and shapes of published SDXL (2.6 billion numbers in the UNet, fp16;
--quick: layers half as wide) are merged by weighted sum, by the service, in a process that does nothing else; with --quick the same is done by loading both files whole,
which at full size would take 20 GB.
What counts is the most memory that is resident (VmHWM) beyond what the process took before it began. Exits 1 when the merge takes more than half of one model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from studio.formats.streaming import Slot, write_stream
from studio.settings import Paths
from tests.diffusion import originals

BAR = 0.5
"""Share of one model's size that a merge may take."""
_STREAMED = """
import json, sys, time
from pathlib import Path
from studio.jobs import SilentLane
from studio.requests.tools import MergeRequest
from studio.services.merging import run
from studio.settings import Paths
from studio.worker import Bench
def memory(): return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(("VmHWM", "VmRSS"))}
before, began = memory()["VmRSS"], time.perf_counter()
run(MergeRequest(primary="a", secondary="b", multiplier=0.3, name="streamed", add_merge_recipe=False), SilentLane(), Bench(Paths(Path(sys.argv[1]))))
print(json.dumps({"peak": memory()["VmHWM"] - before, "seconds": round(time.perf_counter() - began, 1)}))
"""
_WHOLE = """
import json, sys, time
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
def memory(): return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(("VmHWM", "VmRSS"))}
shelf = Path(sys.argv[1]) / "models" / "Stable-diffusion"
before, began = memory()["VmRSS"], time.perf_counter()
a, b = load_file(shelf / "a.safetensors"), load_file(shelf / "b.safetensors")
for key in a:
    a[key] = (a[key].float() * 0.7 + b[key].float() * 0.3).to(a[key].dtype) if a[key].is_floating_point() else a[key]
save_file(a, shelf / "whole.safetensors")
print(json.dumps({"peak": memory()["VmHWM"] - before, "seconds": round(time.perf_counter() - began, 1)}))
"""


def slots(quick: bool) -> dict[str, Slot]:
    """The tensors of a published SDXL checkpoint in fp16."""
    kind = originals.FULL[4]
    if quick:
        kind = replace(kind, widths=(160, 320, 640), heads=(5, 10, 20), text_widths=(384, 640), text_layers=(12, 32), pooled=640)
    with torch.device("meta"):
        state = originals.original(originals.assemble(kind))
    return {key: Slot(torch.float16 if t.is_floating_point() else t.dtype, tuple(t.shape)) for key, t in state.items()}


def checkpoint(path: Path, wanted: dict[str, Slot], seed: int) -> None:
    """A checkpoint of noise: one block of random numbers again and again, which costs nothing to make."""
    noise = torch.randn(2**20, generator=torch.Generator().manual_seed(seed)).half()

    def made(key: str) -> torch.Tensor:
        slot, size = wanted[key], torch.Size(wanted[key].shape).numel()
        return noise.repeat(-(-size // len(noise)))[:size].reshape(slot.shape).to(slot.dtype)

    write_stream(path, wanted, made)


def measured(script: str, root: Path) -> dict[str, Any]:
    """What a process of its own says."""
    out = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])


def main() -> int:
    """Make the files, merge them both ways, say what it took, delete the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="layers half as wide")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="merge-") as folder:
        paths, wanted = Paths(Path(folder)).prepare(), slots(arguments.quick)
        began = time.perf_counter()
        for seed, name in enumerate("ab"):
            checkpoint(paths.checkpoints / f"{name}.safetensors", wanted, seed)
        size = (paths.checkpoints / "a.safetensors").stat().st_size
        facts = {"model": size, "made_in": round(time.perf_counter() - began, 1), "streamed": measured(_STREAMED, paths.root), **({"whole": measured(_WHOLE, paths.root)} if arguments.quick else {})}
    facts |= {f"{way}_share": round(facts[way]["peak"] / size, 3) for way in ("streamed", "whole") if way in facts}
    passed = facts["streamed_share"] <= BAR
    if arguments.json:
        print(json.dumps({**facts, "passed": passed}))
    else:
        print(f"one model            {size / 1e9:6.2f} GB")
        print(f"merge by the service {facts['streamed']['peak'] / 1e9:6.2f} GB at most ({facts['streamed_share']:.0%} of one model), {facts['streamed']['seconds']} s")
        if arguments.quick:
            print(f"both files whole     {facts['whole']['peak'] / 1e9:6.2f} GB at most ({facts['whole_share']:.0%} of one model), {facts['whole']['seconds']} s")
        print("passed" if passed else f"missed: the bar is {BAR:.0%} of one model")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
