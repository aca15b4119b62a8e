import numpy as np
import pytest
import torch
from torch import nn

from headstart.backbones import engine
from headstart.backbones.engine import Normalize, identity_engine, make_engine
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


def test_where_export_fails_pytorch_runs_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OnnxExportError("an operator is missing")

    monkeypatch.setattr(engine, "verified_session", refuse)
    net = network()
    made = make_engine(net, VIEWS[:2], CPU)
    assert made.identity["engine"] == "pytorch"
    assert "an operator is missing" in made.note
    assert np.allclose(made.run(VIEWS), net(torch.from_numpy(VIEWS)).detach().numpy(), atol=1e-6)


def test_pytorch_reads_what_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
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
    def fails(*_: object) -> None:
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
