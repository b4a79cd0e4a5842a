"""Train the experts of a study, as far as they are not there yet: nothing else is run."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.parser("train_experts", __doc__)


def main(args: Namespace) -> int:
    """Train the experts that the arguments name, or describe them with ``--dry-run``."""
    from engine.config.load import load, resolve

    study = resolve(load(args.space, args.overrides))  # what can be wrong soonest, before all that is heavy

    from engine.cluster.errors import one_sentence_errors
    from engine.cluster.experts.train import train_experts
    from engine.io.terminal import echo
    from engine.studies.distill import start
    from engine.studies.job import make_job
    from engine.studies.preflight.dry_run import describe

    job = make_job(args.space, study)
    if args.dry_run:
        print(describe(job))
        return 0
    with one_sentence_errors():
        cluster = start(job, local=args.local)
        train_experts(job.specification, count=job.expert_count, epochs=job.expert_epochs, cluster=cluster)
    echo(f"experts: {job.specification.expert_folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
