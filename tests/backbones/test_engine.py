from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.backbones import engine
from headstart.backbones.engine import (
    Engine,
    Normalize,
    identity_engine,
    make_engine,
    outputs_of,
)
from headstart.backbones.onnx import OnnxExportError
from headstart.errors import DiskFullError

CPU = torch.device("cpu")
VIEWS = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), dtype=np.uint8)


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = (Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), nn.Conv2d(3, 4, 3), nn.ReLU())
    return nn.Sequential(*parts).eval()


def test_normalize_by_hand() -> None:
    view = torch.tensor([[[[255, 0, 102]]]], dtype=torch.uint8)
    output = Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))(view)
    assert output.shape == (1, 3, 1, 1)
    assert output.flatten().tolist() == pytest.approx([2.5, -4 / 3, 0.25])


def test_onnx_runtime_agrees_with_pytorch_on_other_batch_sizes() -> None:
    net = network()
    made = make_engine(net, VIEWS[:2], CPU)
    assert made.identity["engine"] == "onnxruntime"
    assert made.note == ""
    with torch.inference_mode():
        expected = net(torch.from_numpy(VIEWS)).numpy()
    assert np.allclose(made.run(VIEWS), expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(made.run(VIEWS)[:1], made.run(VIEWS[:1]))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_outputs_are_the_same_bits_in_any_number_of_threads(threads: int) -> None:
    made = replace(make_engine(network(), VIEWS[:2], CPU), at_once=threads)
    size = made.batch_size
    batches = [VIEWS[start : start + size] for start in range(0, len(VIEWS), size)]
    assert len(batches) > 1
    found = list(outputs_of(made, batches))
    assert [len(each) for each in found] == [len(each) for each in batches]
    alone = np.concatenate([made.run(batch) for batch in batches])
    assert np.concatenate(found).tobytes() == alone.tobytes()


def test_only_a_few_batches_are_taken_ahead_and_an_error_ends_it() -> None:
    taken = list[int]()

    def batches() -> Iterator[NDArray[np.int64]]:
        for number in range(20):
            taken.append(number)
            yield np.array([number])

    def run(batch: NDArray[np.int64]) -> NDArray[np.int64]:
        if batch[0] == 5:
            raise OnnxExportError("the sixth batch")
        return batch

    outputs = outputs_of(Engine(run, at_once=3), batches())
    assert int(next(outputs)[0]) == 0
    assert taken == [0, 1, 2, 3]
    with pytest.raises(OnnxExportError, match="the sixth batch"):
        list(outputs)
    assert len(taken) <= 9


def test_where_export_fails_pytorch_runs_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OnnxExportError("an operator is missing")

    monkeypatch.setattr(engine, "verified_session", refuse)
    net = network()
    made = make_engine(net, VIEWS[:2], CPU)
    assert made.identity["engine"] == "pytorch"
    assert "an operator is missing" in made.note
    assert np.allclose(made.run(VIEWS), net(torch.from_numpy(VIEWS)).detach().numpy(), atol=1e-6)


def test_pytorch_reads_what_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OnnxExportError("an operator is missing")

    monkeypatch.setattr(engine, "verified_session", refuse)
    made = make_engine(network(), VIEWS[:2], CPU)
    mapped = VIEWS.copy()
    mapped.setflags(write=False)
    assert np.array_equal(made.run(mapped), made.run(VIEWS))


def test_identity_gives_the_view() -> None:
    assert np.array_equal(identity_engine().run(VIEWS), VIEWS)


@pytest.mark.parametrize(("free", "names"), [(0, 99), (100, 99), (10**9, 3), (10**9, 99)])
def test_a_full_disk_does_not_change_the_engine(
    free: int, names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OnnxExportError("it cannot be exported to ONNX: no reason")

    class Disk:
        f_files, f_favail, f_bavail, f_frsize = 99, names, free, 1

    monkeypatch.setattr(engine, "verified_session", fails)
    monkeypatch.setattr(engine.os, "statvfs", lambda _: Disk)
    network, example = torch.nn.Linear(5, 3).eval(), np.zeros((2, 5), np.float32)
    if names < 64 or free < 2 * (5 * 3 + 3) * 4:
        with pytest.raises(DiskFullError, match="set TMPDIR to another folder"):
            engine.make_engine(network, example, torch.device("cpu"))
    else:
        assert "PyTorch is used instead" in (
            engine.make_engine(network, example, torch.device("cpu")).note
        )
