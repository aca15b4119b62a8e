import errno
from pathlib import Path

import pytest

from headstart.artifacts.files import replacing, write_json, write_text
from headstart.errors import DiskFullError


def test_what_was_there_survives_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail() -> None:
        with replacing(target) as draft:
            draft.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_error_for_people(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match="Free some space"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_unicode(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"class": "Gänseblümchen"})
    assert "Gänseblümchen" in (tmp_path / "a.json").read_text(encoding="utf-8")
