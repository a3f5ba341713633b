"""Run the benchmarks: `python -m benchmarks [SUBJECT ...] [--smoke]`."""

import argparse
import functools

from benchmarks import (
    ceilings,
    chunks,
    convolution,
    course,
    deep,
    gradcheck,
    gradcheck_speed,
    grids,
    one_net,
    random_widths,
    scaling,
    source_net,
    startup,
    sweep_step,
    sweeps,
    targets,
    throughput,
    update_rules,
)
from benchmarks.plots import draw
from benchmarks.report import print_rows, write_json
from benchmarks.timing import disturbed

SUBJECTS = {
    "ceilings": ceilings.measure,
    "sweep_step": sweep_step.measure,
    "sweeps_45": functools.partial(sweeps.measure_grid, "cifar10-45"),
    "sweeps_24": functools.partial(sweeps.measure_grid, "cifar10-24"),
    "sweeps_144": functools.partial(sweeps.measure_grid, "cifar10-144"),
    "sweeps_tiny": sweeps.measure_tiny,
    "scaling_float32": functools.partial(scaling.measure, "float32"),
    "scaling_mixed": functools.partial(scaling.measure, "mixed"),
    "chunks": chunks.measure,
    "one_net": one_net.measure,
    "deep": deep.measure,
    "update_rules": update_rules.measure,
    "startup": startup.measure,
    "targets": targets.measure,
    "grids": grids.measure,
    "random_widths": random_widths.measure,
    "convolution": convolution.measure,
    "source_net": source_net.measure,
    "throughput": throughput.measure,
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
        if not rows:  # what it needs is not here
            print(f"{subject}: left out")
            continue
        print_rows(subject, rows)
        if not options.smoke:
            share = disturbed()
            print(f"{write_json(subject, rows, share)}; {share:.0%} of the timed calls disturbed")
            if (picture := draw(subject, rows)) is not None:
                print(picture)


if __name__ == "__main__":
    main()
