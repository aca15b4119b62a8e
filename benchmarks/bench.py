"""All comparisons with the earlier version: `make bench`; and whether they still hold.

    python benchmarks/bench.py
    python benchmarks/bench.py --check

measures each subject, keeps it in `benchmarks/results/` and writes the tables of `docs/speed.md`,
that of `peers.py` among them, which is run by itself: fastai takes an hour.
With `--check`, nothing is written: new ratios are compared with the kept ones, and the exit code is
1 if one is lower by more than `--tolerance`.
"""

import argparse
import sys

import head_run
import prefix_rate
import stage_limits
import startup
import suffix_rate
from measure import write_whole
from ratios import draw, keep, kept, page, table, worse
from records import DOCS

SUBJECTS = {
    "startup": startup.measure,
    "prefix": prefix_rate.measure,
    "suffix": suffix_rate.measure,
    "limits": stage_limits.measure,
    "head": head_run.measure,
}
PAGE = DOCS / "speed.md"
MARK = "<!-- Below this line: python benchmarks/bench.py -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="compare with the kept results")
    parser.add_argument("--page", action="store_true", help="only write the page of what is kept")
    parser.add_argument("--tolerance", type=float, default=0.2)
    args = parser.parse_args()
    if args.page:
        write_page()
        return
    recorded = {each.name: each for each in kept()}
    lost: list[str] = []
    for name in args.subjects:
        found = SUBJECTS[name](args.rounds)
        print(f"{found.title}\n\n{table(found)}\n", flush=True)
        if not args.check:
            keep(found)
        elif name in recorded:
            lost += worse(recorded[name], found, args.tolerance)
        else:
            lost.append(f"{name}: nothing is recorded. Run `make bench`.")
    if args.check:
        sys.exit("\n".join(lost))
    write_page()


def write_page() -> None:
    """Writes the tables and pictures of all kept results below the mark in the page."""
    subjects = kept()
    for each in subjects:
        draw(each)
    text = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    write_whole(PAGE, f"{text}{MARK}\n{page(subjects)}")


if __name__ == "__main__":
    main()
