"""``python -m tasks.miniature``: view the scenes, export them, train the models, measure them."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from tasks.common.errors import UserError

# The planted units are fitted to the ResNet-50, so they come after it; the autoencoders are of several networks.
MODELS = ("resnet50", "planted", "superposed", "clip", "captioner", "resnet18", "vit_tiny", "segmenter")
SAES = tuple(
    f"sae_{network}_{activation}_{seed}"
    for seed in (0, 1)
    for activation in ("topk", "relu")
    for network in ("resnet50", "vit_tiny", "resnet50_superposed")
)


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands.

    Returns:
        The exit code: 0 on success, 1 for a user's mistake or a model below its bar.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        return options.command(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.miniature", description=__doc__)
    commands = parser.add_subparsers(required=True)
    gallery = commands.add_parser("gallery", help="write a contact sheet of scenes")
    gallery.add_argument("--out", type=Path, default=Path("gallery.png"))
    gallery.add_argument("--split", choices=("train", "probe", "test"), default="test")
    gallery.add_argument("--perturbed", action="store_true", help="a few scenes under all perturbations instead")
    gallery.set_defaults(command=_gallery)
    export = commands.add_parser("export", help="write scenes as a folder in Broden's format")
    export.add_argument("--out", type=Path, required=True)
    export.add_argument("--split", choices=("train", "probe", "test"), default="probe")
    export.add_argument("--count", type=_count, default=500)
    export.set_defaults(command=_export)
    train = commands.add_parser("train", help="train models and overwrite their checkpoints and model cards")
    train.add_argument("models", nargs="*", help=f"of {', '.join((*MODELS, *SAES))}")
    train.add_argument("--all", action="store_true", help="all of them")
    train.add_argument("--cache", type=Path, default=Path("cache/miniature"), help="where rendered data is kept")
    train.set_defaults(command=_train)
    evaluate = commands.add_parser("evaluate", help="measure the checkpoints against their bars")
    evaluate.add_argument("--count", type=_count, default=2000, help="test scenes")
    evaluate.add_argument("--write", action="store_true", help="put the figures into the model cards")
    evaluate.set_defaults(command=_evaluate)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text}")
    return number


def _gallery(options: argparse.Namespace) -> int:
    from tasks.miniature.gallery import write_gallery, write_perturbed

    (write_perturbed if options.perturbed else write_gallery)(options.out, options.split)
    print(options.out)
    return 0


def _export(options: argparse.Namespace) -> int:
    from tasks.miniature.broden import export

    export(options.out, options.split, options.count)
    print(options.out)
    return 0


def _train(options: argparse.Namespace) -> int:
    from tasks.common.errors import unknown_name
    from tasks.miniature.training.train import train

    known = (*MODELS, *SAES)
    chosen = known if options.all else tuple(options.models)
    if not chosen:
        raise UserError(f"Name what to train ({', '.join(MODELS)}), or give --all.")
    for name in chosen:
        if name not in known:
            raise unknown_name("model", name, known)
    for name in chosen:
        train(name, options.cache)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    import torch

    from tasks.miniature.training.cards import add_quality
    from tasks.miniature.training.evaluate import evaluate
    from tasks.profiles.build import Roles
    from tasks.profiles.schema import load_profile

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = evaluate(Roles(load_profile("miniature"), device), options.count)
    print(f"{'role':<11} {'figure':<40} {'value':>7} {'bar':>5} {'images':>7}")
    for q in figures:
        bar = f"{q.bar:.2f}" if q.bar is not None else ""
        verdict = "" if q.reached else "  below its bar"
        print(f"{q.role:<11} {q.figure:<40} {q.value:>7.4f} {bar:>5} {q.images:>7}{verdict}")
    if options.write:
        add_quality(figures)
    return 0 if all(q.reached for q in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
