"""List the actors that earlier commands left on a running cluster; --stop ends them."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "actors", __doc__, default_space=None, examples=[("", "the actors that run"), ("--stop", "end them")]
)
PARSER.add_flag("--stop", "end them; finished epochs of experts lie in the store")


def main(args: Namespace) -> int:
    """Print every detached actor of this project, and end them where ``--stop`` asks for that."""
    from engine.cluster import runtime
    from engine.cluster.experts.registry import stale_actors, stop_actor

    if not runtime.join():
        print("No cluster runs here; a private one ends with its command.")
        return 0
    found = stale_actors()
    for name, one in found.items():
        if one is None:
            print(f"{name}  does not answer")
        else:
            state = "trains experts" if one["trains"] else f"idle for {one['idle_s']:.0f} s"
            print(f"{name}  {state}, process {one['pid']} on {one['host']}, {one['folder']}")
        if args.stop:
            stop_actor(name)
    print(f"{len(found)} actors{' stopped' if args.stop else ''}.")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
