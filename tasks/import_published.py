"""Turn files of published code into ours: a distilled set (.pt), or the buffers of its experts."""

import sys
from argparse import Namespace
from pathlib import Path

from tasks import cli

PARSER = cli.TaskParser(
    "import_published",
    __doc__,
    examples=[
        ("published/flickr30k_100_lors --distilled distilled_3000.pt --out lors.safetensors", "a set"),
        ("published/flickr30k_100_lors --buffers buffers/", "experts, into the store of the space"),
    ],
)
PARSER.add_argument("--distilled", metavar="FILE", help="a published distilled set, a file of torch.save")
PARSER.add_argument(
    "--buffers", metavar="FOLDER", help="the folder of img_replay_buffer_0.pt, txt_replay_buffer_0.pt and so on"
)
PARSER.add_argument("--out", metavar="FILE", help="where the set is written as safetensors, for evaluate.py --set")
PARSER.add_argument(
    "--alpha", type=float, help="the alpha of a low-rank similarity (default: as the whole matrix in the file has it)"
)
PARSER.add_argument(
    "--normalisation",
    choices=("clip", "imagenet", "none"),
    default="clip",
    help="the statistics that the pixels of the set were normalised with (default: clip)",
)


def main(args: Namespace) -> int:
    """Import the set or the buffers that the arguments name, as those of the space's student."""
    if bool(args.distilled) == bool(args.buffers):
        raise ValueError("import_published: expected either --distilled FILE or --buffers FOLDER.")
    if bool(args.distilled) != bool(args.out):
        raise ValueError("import_published: --out names the file of a distilled set, expected it with --distilled.")
    job = cli.read_job(args)

    from engine.studies.importing import import_experts, import_set

    if args.buffers:
        import_experts(job, Path(args.buffers).expanduser())
        return 0
    source, target = Path(args.distilled).expanduser(), Path(args.out).expanduser().absolute()
    import_set(job, source, target, alpha=args.alpha, normalisation=args.normalisation)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
