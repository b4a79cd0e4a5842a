"""Turn what published code left into our files: a distilled set (.pt), or the buffers of its experts."""

import sys
from argparse import Namespace
from pathlib import Path

from tasks import cli

PARSER = cli.parser("import_published", __doc__)


def main(args: Namespace) -> int:
    """Import the set or the buffers that the arguments name, as those of the space's student."""
    if bool(args.distilled) == bool(args.buffers):
        raise ValueError("import_published: expected either --distilled FILE or --buffers FOLDER.")
    if bool(args.distilled) != bool(args.out):
        raise ValueError("import_published: --out names the file of a distilled set, expected it with --distilled.")
    from engine.config.load import load, resolve

    study = resolve(load(args.space, args.overrides))  # what can be wrong soonest, before all that is heavy

    from engine.studies.importing import import_experts, import_set
    from engine.studies.job import make_job

    job = make_job(args.space, study)
    if args.distilled:
        import_set(
            job,
            Path(args.distilled).expanduser(),
            Path(args.out).expanduser().absolute(),
            alpha=args.alpha,
            normalisation=args.normalisation,
        )
    else:
        import_experts(job, Path(args.buffers).expanduser())
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
