"""Score a synthetic set under a study's protocol: its own, any file or exported folder; other encoders: a transfer."""

import sys
from argparse import Namespace

from tasks import cli

PARSER = cli.TaskParser(
    "evaluate",
    __doc__,
    examples=[
        *cli.SPACE_EXAMPLES,
        ("flickr8k_100 --set my_set.safetensors", "a set in a file"),
        ("flickr8k_100 --set models:/my_set/1", "a registered set, by its version"),
        ("--classes backdrop", "zero-shot classification of the drawn scenes, too"),
        ("my_photos.yaml --classes breeds.yaml", "and of photos of your own"),
        ("flickr8k_100 --students vit.yaml wider.yaml", "the study's own set, with other students"),
    ],
)
PARSER.add_argument(
    "--set",
    metavar="FILE",
    help="a set, a folder of export.py, or a registered set models:/NAME/VERSION (default: the study's own set)",
)
PARSER.add_argument(
    "--students",
    nargs="+",
    default=[],
    metavar="YAML",
    help="score it with other students too: files of changes of the student, such as student.image: {...}; the rows go "
    "to MLflow, below the run of the finished study whose set it is, or of another set below a run of their own",
)
PARSER.add_argument(
    "--classes",
    metavar="NAME",
    help="classify test by prompts, too: a YAML file with labels and classes, or backdrop, shape or colour of shapes",
)
PARSER.add_row_flags()


def main(args: Namespace) -> cli.Answer:
    """Score the set, or describe the study with ``--dry-run``."""
    args.overrides += [word for word in args.students if "=" in word]  # those typed behind the files
    args.students = [word for word in args.students if "=" not in word]
    job = cli.read_job(args)
    if args.students:
        from engine.config.comparison import given_students

        given_students(job.study, args.students, pairs=1)  # so that --dry-run reports mistakes in the files, too
    if cli.described(args, job):
        return 0
    from engine.studies.evaluate import score_file

    return score_file(job, args.set, students=args.students, classes=args.classes, local=args.local)


if __name__ == "__main__":
    sys.exit(cli.run(main, parser=PARSER))
