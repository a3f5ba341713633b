"""Run the benchmarks: `python -m benchmarks [SUBJECT ...] [--smoke]`."""

import argparse

from benchmarks import (
    convolution,
    course,
    gradcheck,
    gradcheck_speed,
    grids,
    random_widths,
    sweep_step,
)
from benchmarks.report import print_rows, write_json

SUBJECTS = {
    "sweep_step": sweep_step.measure,
    "grids": grids.measure,
    "random_widths": random_widths.measure,
    "convolution": convolution.measure,
    "course": course.measure,
    "gradcheck": gradcheck.measure,
    "gradcheck_speed": gradcheck_speed.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument(
        "--smoke", action="store_true", help="smallest size: does it run? Nothing is written"
    )
    options = parser.parse_args()
    for unknown in set(options.subjects) - set(SUBJECTS):
        parser.error(f"unknown subject {unknown!r}. Known: {', '.join(SUBJECTS)}")
    for subject in options.subjects or SUBJECTS:
        rows = SUBJECTS[subject](smoke=options.smoke)
        print_rows(subject, rows)
        if not options.smoke:
            print(write_json(subject, rows))


if __name__ == "__main__":
    main()
