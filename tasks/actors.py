"""List the actors that earlier commands left on a running cluster; --stop ends them."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "actors", __doc__, default_space=None, examples=[("", "the actors that run"), ("--stop", "end them")]
)
PARSER.add_argument("--stop", action="store_true", help="end them; finished epochs of experts lie in the store")


def main(args: Namespace) -> int:
    """Print every detached actor of this project, and end them where ``--stop`` asks for that."""
    from engine.cluster import runtime
    from engine.cluster.experts.stale import stale_actors, stop

    if not runtime.join():
        print("No cluster runs here; a private one ends with its command.")
        return 0
    found = stale_actors()
    for one in found:
        print(one.sentence())
        if args.stop:
            stop(one)
    print(f"{len(found)} actors{' stopped' if args.stop else ''}.")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
