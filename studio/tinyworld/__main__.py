"""`python -m studio.tinyworld`: train the tiny world, check it, render its pictures."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from studio.settings import Paths

PARTS = ("autoencoder", "painter", "captioner", "tagger")
SHARES = {"autoencoder": 0.2, "painter": 0.6, "captioner": 0.1, "tagger": 0.1}
"""What part of the hours each one gets."""
SAMPLES = 12


def main() -> int:
    """Do what the words ask for; returns the exit code."""
    options = _parser().parse_args()
    return {"train": _train, "check": _check, "render": _render, "sample": _sample}[options.command](options)


def _parser() -> argparse.ArgumentParser:
    """The words that are understood."""
    parser = argparse.ArgumentParser(prog="python -m studio.tinyworld", description="The small Stable Diffusion that ships inside, and the world it knows.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train its parts, going on from what is there")
    train.add_argument("--part", choices=PARTS, action="append", help="only this part (may be given again)")
    train.add_argument("--hours", type=float, default=10.0, help="time of work for all parts together, over all sessions")
    train.add_argument("--threads", type=int, default=0, help="CPU threads (0: as many as torch takes)")
    train.add_argument("--out", type=Path, default=Paths.default().models, help="folder of models to write into")
    train.add_argument("--state", type=Path, default=Paths.default().outputs / "tinyworld", help="folder where unfinished work is kept")
    check = commands.add_parser("check", help="print its figures; exit code 1 when a bar is missed")
    check.add_argument("--quick", action="store_true", help="fewer pictures, one concept, fewer steps")
    check.add_argument("--methods", action="store_true", help="teach a character by every method instead; LoRA, LoKr, DreamBooth and embedding + LoRA must each beat the embedding alone")
    check.add_argument("--json", action="store_true", help="print the figures as JSON")
    check.add_argument("--out", type=Path, help="contact sheet to write (default: tinyworld-check.png or tinyworld-methods.png among the outputs)")
    render = commands.add_parser("render", help="write a sheet of the world's pictures")
    render.add_argument("--count", type=int, default=64)
    render.add_argument("--first", type=int, default=0)
    render.add_argument("--out", type=Path, default=Path("world.png"))
    sample = commands.add_parser("sample", help="write the sample project's pictures again")
    sample.add_argument("--out", type=Path, default=Path(__file__).parent / "sample")
    return parser


def _train(options: argparse.Namespace) -> int:
    """Train the parts that were asked for."""
    import torch

    from studio.tinyworld import autoencoder, captioner, painter, tagger

    torch.set_flush_denormal(True)
    if options.threads:
        torch.set_num_threads(options.threads)
    tiny, state = options.out / "Stable-diffusion" / "tiny-world", options.state
    places = {"autoencoder": tiny / "vae", "painter": tiny, "captioner": options.out / "BLIP" / "tiny-blip", "tagger": options.out / "torch_deepdanbooru" / "model-resnet_custom_v3.pt"}
    lessons = {"autoencoder": autoencoder.train, "painter": painter.train, "captioner": captioner.train, "tagger": tagger.train}
    for part in options.part or PARTS:
        print(f"{part} -> {places[part]}", flush=True)
        lessons[part](places[part], state / f"{part}.pt", options.hours * 3600 * SHARES[part])
    return 0


def _check(options: argparse.Namespace) -> int:
    """Print the figures; 1 when a bar is missed."""
    options.out = options.out or Paths.default().outputs / f"tinyworld-{'methods' if options.methods else 'check'}.png"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    return _check_methods(options) if options.methods else _check_world(options)


def _check_methods(options: argparse.Namespace) -> int:
    """Teach a character by every method and print what came of it; 1 when a bar is missed."""
    from studio.tinyworld.check_methods import QUICK, Sizes, check_methods, missed, table

    with tempfile.TemporaryDirectory() as root:
        rows, sheet = check_methods(Path(root), QUICK if options.quick else Sizes(), tell=lambda text: print(text, file=sys.stderr, flush=True))
    sheet.save(options.out)
    sentences = missed(rows)
    if options.json:
        print(json.dumps({"methods": [asdict(row) for row in rows], "missed": sentences, "sheet": str(options.out)}, indent=1))
        return int(bool(sentences))
    print(f"{table(rows)}\ncontact sheet: {options.out}")
    for sentence in sentences:
        print(f"MISSED: {sentence}", file=sys.stderr)
    return int(bool(sentences))


def _check_world(options: argparse.Namespace) -> int:
    """Print the figures of the world itself; 1 when a bar is missed."""
    from studio.tinyworld.check import BARS, QUICK, Sizes, check

    with tempfile.TemporaryDirectory() as root:
        figures, sheet = check(Path(root), QUICK if options.quick else Sizes())
    sheet.save(options.out)
    missed = figures.missed()
    if options.json:
        print(json.dumps({**asdict(figures), "missed": missed, "sheet": str(options.out)}, indent=1))
        return int(bool(missed))
    print(f"right subject in painted pictures     {figures.subject:.3f}  (bar {BARS['subject']}; the judge itself on true pictures: {figures.judge_subject:.3f})")
    print(f"right background in painted pictures  {figures.background:.3f}  (bar {BARS['background']}; the judge itself on true pictures: {figures.judge_background:.3f})")
    print(f"captions right word for word          {figures.captions:.3f}  (bar {BARS['captions']})")
    print(f"F1 of tags                            {figures.tags:.3f}  (bar {BARS['tags']})")
    for c in figures.concepts:
        print(f"{c['name']}: fixed loss {c['initial']:.4f} -> {c['trained']:.4f} (noisy half {c['initial_high']:.4f} -> {c['trained_high']:.4f}) in {c['seconds']} s")
    print(f"contact sheet: {options.out}")
    for sentence in missed:
        print(f"MISSED: {sentence}", file=sys.stderr)
    return int(bool(missed))


def _render(options: argparse.Namespace) -> int:
    """Write a sheet of pictures."""
    from studio.tinyworld.world import picture, sheet

    sheet([picture(options.first + i).image for i in range(options.count)], 8).save(options.out)
    print(options.out)
    return 0


def _sample(options: argparse.Namespace) -> int:
    """Write the sample project."""
    from studio.tinyworld.sample_project import write

    for path in write(options.out, SAMPLES):
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
