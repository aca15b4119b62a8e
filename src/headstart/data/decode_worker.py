"""A process that decodes images: a line of jobs in, a line of answers out, until its input ends."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from headstart.data.decode_pool import DecodeJob, Decoding, decode_job
from headstart.data.reading import reading_from


def main() -> None:
    """Answers each line of standard input: a JSON list of jobs, by a list of what was learned.

    Where the disk fails, the answer is an object with the system's error instead.
    """
    asked, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    decoding = Decoding(asked["short_side"], reading_from(asked["reading"]))
    for line in sys.stdin:
        jobs = [_job(**job) for job in json.loads(line)]
        try:
            answer: object = [decode_job(job, decoding, folder) for job in jobs]
        except OSError as error:
            answer = {"errno": error.errno, "strerror": error.strerror}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _job(box: list[int] | None, **rest: Any) -> DecodeJob:
    # JSON has no tuples.
    return DecodeJob(box=(box[0], box[1], box[2], box[3]) if box else None, **rest)


if __name__ == "__main__":
    main()
