"""Asks a service for the class of images, with nothing but Python's own library.

    headstart serve RUN
    python examples/ask_service.py http://127.0.0.1:8000 IMAGE …

The variable HEADSTART_API_KEY holds the key, if the service wants one.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

TRIES = 5


def ask(address: str, image: Path) -> dict:
    """Returns what the service answers; a service that is busy is asked again."""
    headers = {"Content-Type": "application/octet-stream"}
    if key := os.environ.get("HEADSTART_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{address}/v1/predict", image.read_bytes(), headers)
    for _ in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["predictions"][0]
        except urllib.error.HTTPError as error:
            if error.code not in {429, 503}:
                sys.exit(f"{image}: {json.load(error)['detail']}")
            time.sleep(int(error.headers.get("Retry-After", "1")))
    sys.exit(f"{image}: the service is busy")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="where the service is, such as http://127.0.0.1:8000")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    args = parser.parse_args()
    for image in args.images:
        answer = ask(args.address, image)
        unlike = "  (unlike the training images)" if answer["out_of_distribution"] else ""
        print(f"{image}: {answer['label']} {answer['probability']:.1%}{unlike}")


if __name__ == "__main__":
    main()
