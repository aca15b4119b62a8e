"""A service under load, beside a raw loop of ONNX Runtime over the same files.

    python benchmarks/serve_load.py RUN IMAGE … --requests 600

32 clients on this machine send one image a request, each as fast as it is answered. The raw loop
decodes the same files and runs the same network in batches, in one process without HTTP. Then a
service that takes 8 requests at once is asked by the 32 clients: it must answer 200 or 429.
"""

import argparse
import http.client
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from headstart.inference.bundle import open_bundle
from headstart.inference.run_bundle import run_bundle

CLIENTS = 32


class Served:
    """A service in a process of its own."""

    def __init__(self, run: Path, *options: str) -> None:
        command = [sys.executable, "-m", "headstart", "serve", str(run), "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.process.stderr.readline())
        assert found is not None
        self.port = int(found[1])

    def memory(self) -> float:
        """Its resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1e3

    def end(self) -> None:
        """Ends it in order."""
        self.process.terminate()
        self.process.wait(60)


def ask(port: int, contents: list[bytes]) -> list[tuple[int, float]]:
    """Statuses and seconds of requests, one after the other over one connection."""
    client, found = http.client.HTTPConnection("127.0.0.1", port, timeout=120), []
    for content in contents:
        started = time.perf_counter()
        client.request("POST", "/v1/predict", content, {"Content-Type": "image/jpeg"})
        answer = client.getresponse()
        answer.read()
        found.append((answer.status, time.perf_counter() - started))
    client.close()
    return found


def load(
    port: int, contents: list[bytes], requests: int
) -> tuple[dict[int, int], np.ndarray, float]:
    """Counts by status, seconds of the requests, and requests a second."""
    number = requests // CLIENTS
    each = [[contents[(c + n) % len(contents)] for n in range(number)] for c in range(CLIENTS)]
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        found = [one for many in pool.map(lambda some: ask(port, some), each) for one in many]
    rate = len(found) / (time.perf_counter() - started)
    statuses = [status for status, _ in found]
    return {s: statuses.count(s) for s in set(statuses)}, np.array([s for _, s in found]), rate


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("run", type=Path)
    options.add_argument("images", type=Path, nargs="+")
    options.add_argument("--requests", type=int, default=640)
    chosen = options.parse_args()
    contents = [path.read_bytes() for path in chosen.images]
    bundle = open_bundle(chosen.run)
    many = [contents[n % len(contents)] for n in range(chosen.requests)]
    run_bundle(bundle, many[:32])
    started = time.perf_counter()
    run_bundle(bundle, many)
    raw = len(many) / (time.perf_counter() - started)

    served = Served(chosen.run)
    load(served.port, contents, CLIENTS * 2)
    before = served.memory()
    counts, seconds, rate = load(served.port, contents, chosen.requests)
    after = served.memory()
    served.end()
    few = Served(chosen.run, "--max-requests", "8")
    above, _, _ = load(few.port, contents, CLIENTS * 4)
    few.end()
    print(
        json.dumps(
            {
                "requests": chosen.requests,
                "statuses": counts,
                "requests_per_s": round(rate, 1),
                "raw_images_per_s": round(raw, 1),
                "share_of_raw": round(rate / raw, 2),
                "p50_ms": round(float(np.percentile(seconds, 50)) * 1e3),
                "p99_ms": round(float(np.percentile(seconds, 99)) * 1e3),
                "memory_mb": [round(before), round(after)],
                "statuses_above_the_limit": above,
            }
        )
    )


if __name__ == "__main__":
    main()
