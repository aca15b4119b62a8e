"""The figures of the service, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class ServiceFigures:
    """Counts and times of one service; two in a process do not share them."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "headstart_requests_total", "Answered requests.", ("path", "status"), registry=registry
        )
        self.seconds = Histogram(
            "headstart_request_seconds",
            "Time from the headers of a request to the end of its answer.",
            ("path",),
            registry=registry,
        )
        self.in_flight = Gauge(
            "headstart_requests_in_flight",
            "Requests with images that are worked on or wait.",
            registry=registry,
        )
        self.batches = Histogram(
            "headstart_batch_images",
            "Images that the network saw at once.",
            registry=registry,
            buckets=_SIZES,
        )
        self.images = Counter(
            "headstart_images_total",
            "Images by what became of them.",
            ("result",),
            registry=registry,
        )

    def as_text(self) -> bytes:
        """Returns all figures."""
        return generate_latest(self._registry)
