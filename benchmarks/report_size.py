"""How large the report is, and how long its pictures and its page take.

    python benchmarks/report_size.py

trains a head on the cut-out cars at 128 pixels (2,026 sealed test images, 196 classes) and measures
the two steps that draw the report: what it shows of the images, and the page itself.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from headstart.api import fit
from records import BENCH, DATA


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=DATA / "stanford_cars_crops", help="folder of images"
    )
    parser.add_argument("--resolution", type=int, default=128)
    args = parser.parse_args()
    out = BENCH / "report_size"
    shutil.rmtree(out, ignore_errors=True)
    took: dict[str, float] = {}

    def timed(name: str) -> Callable[..., Any]:
        work = getattr(fit, name)

        def run(*arguments: Any) -> Any:
            start = time.monotonic()
            result = work(*arguments)
            took[name] = time.monotonic() - start
            return result

        return run

    with (
        patch.object(fit, "keep_evidence", timed("keep_evidence")),
        patch.object(fit, "write_report", timed("write_report")),
    ):
        run = fit.fit(
            args.data,
            out=out / "run",
            strategy="head",
            epochs=0,
            settings=[f"backbone.resolution={args.resolution}"],
        )
    size = (run.folder / "report.html").stat().st_size
    print(
        f"{size / 1e6:.1f} MB for {run.metrics.n} test images of {len(run.metrics.classes)} "
        f"classes; pictures {took['keep_evidence']:.1f} s, page {took['write_report']:.1f} s"
    )


if __name__ == "__main__":
    main()
