import io

import pytest

from headstart.progress import SILENT, PlainProgress, for_stream, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (241, "4 min 01 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_pipe_gets_plain_lines_with_time_left() -> None:
    stream = io.StringIO()
    progress = for_stream(stream)
    assert isinstance(progress, PlainProgress)
    progress.say("hello")
    noisy = PlainProgress(stream, every_s=0.0)
    assert list(noisy.track(range(3), "work", 3)) == [0, 1, 2]
    lines = stream.getvalue().splitlines()
    assert lines[0] == "hello"
    assert lines[1].startswith("work: 1/3, ")
    assert lines[1].endswith(" left")
    assert len(lines) == 3


def test_silence_passes_items_through() -> None:
    SILENT.say("nothing")
    assert list(SILENT.track(iter("ab"), "work", 2)) == ["a", "b"]
