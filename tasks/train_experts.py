"""Train the experts of a study, as far as they are not there yet: nothing else is run."""

import sys
from argparse import Namespace

from engine import command

PARSER = command.parser("train_experts", __doc__)


def main(args: Namespace) -> int:
    """Train the experts that the arguments name, or describe them with ``--dry-run``."""
    from engine.config import load, resolve

    study = resolve(load(args.space, args.overrides))  # what can be wrong soonest, before all that is heavy

    from engine.cluster.describe import describe
    from engine.cluster.distillation import start
    from engine.cluster.errors import own_sentences
    from engine.cluster.job import make_job, say, train_experts

    job = make_job(args.space, study)
    if args.dry_run:
        print(describe(job))
        return 0
    with own_sentences():
        train_experts(job, start(job, local=args.local))
    say(f"experts: {job.specification.expert_folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, parser=PARSER))
