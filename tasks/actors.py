"""List the actors that earlier commands left on a running cluster; --stop ends them."""

import sys
from argparse import Namespace

from engine import command

PARSER = command.parser("actors", __doc__)


def main(args: Namespace) -> int:
    """Print every detached actor of ours, and end them where that is asked for."""
    from engine.cluster import leftovers, runtime

    if not runtime.join():
        print("No cluster runs here; a private one ends with its command.")
        return 0
    found = leftovers.leftovers()
    for one in found:
        print(one.sentence())
        if args.stop:
            leftovers.stop(one)
    print(f"{len(found)} actors{' stopped' if args.stop else ''}.")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, parser=PARSER))
