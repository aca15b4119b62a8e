"""Who may use the service, and from where."""

from pathlib import Path

import pytest

from headstart.errors import InputError
from headstart.serving.options import KEY_VARIABLE, ServeOptions, read_key

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def test_a_local_service_answers_to_names_of_this_machine_only() -> None:
    local = ServeOptions(allowed_host=("Shop.example",))
    assert {"127.0.0.1", "localhost", "::1", "shop.example"} == local.hosts
    assert ServeOptions(host="0.0.0.0").hosts == frozenset()
    assert ServeOptions(host="0.0.0.0", allowed_host=("a.b",)).hosts == {"a.b"}


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.evil", False)],
)  # fmt: skip
def test_only_loopback_is_local(host: str, local: bool) -> None:
    assert ServeOptions(host=host).is_local is local


def test_a_key_comes_from_a_file_or_the_environment_but_not_from_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_key(ServeOptions()) is None
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    from_file = read_key(ServeOptions(api_key_file=file))
    assert from_file is not None and from_file.fits(KEY) and not from_file.fits(KEY + "\n")
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    from_environment = read_key(ServeOptions())
    assert from_environment is not None and from_environment.fits(KEY)
    with pytest.raises(InputError, match="not in both"):
        read_key(ServeOptions(api_key_file=file))


@pytest.mark.parametrize("key", ["", "short", "sixteen letters and spaces", "é" * 20, "x" * 1001])
def test_a_key_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(InputError, match="openssl rand"):
        read_key(ServeOptions())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.*No such file"):
        read_key(ServeOptions(api_key_file=tmp_path / "nothing"))
    (tmp_path / "odd").write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(InputError, match="not text"):
        read_key(ServeOptions(api_key_file=tmp_path / "odd"))
