import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from torch import Tensor, nn

from headstart.backbones.onnx import (
    OnnxExportError,
    _export,
    annotate,
    run_onnx,
    to_onnx,
    verified_session,
    verify,
)
from headstart.backbones.sessions import open_session


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout())


def test_export_is_in_eval_mode_with_a_free_batch_size(tmp_path: Path) -> None:
    model = network().train()
    to_onnx(model, torch.rand(2, 3, 8, 8), tmp_path / "network.onnx")
    assert model.training
    assert model[3].training
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    session = open_session(tmp_path / "network.onnx", threads=1)
    assert session.get_session_options().intra_op_num_threads == 1
    for count in (1, 2, 7):
        batch = torch.rand(count, 3, 8, 8)
        found = run_onnx(session, batch.numpy())
        assert found.dtype == np.float32
        with torch.no_grad():
            np.testing.assert_allclose(found, model.eval()(batch).numpy(), rtol=1e-4, atol=1e-6)


class Bytes(nn.Module):
    """Halves bytes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2).float() / 2


def test_bytes_go_in_as_bytes(tmp_path: Path) -> None:
    example = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    session = verified_session(Bytes(), example, tmp_path / "bytes.onnx")
    found = run_onnx(session, np.full((3, 4, 4, 3), 255, np.uint8))
    assert found.shape == (3, 3, 4, 4)
    assert (found == 127.5).all()


class Branching(nn.Module):
    """Does what a trace of one batch cannot show."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.min() > 0 else -x


def test_an_export_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxExportError, match="differs from PyTorch"):
        verified_session(Branching(), torch.ones(2, 3), tmp_path / "branching.onnx")


class FixedBatch(nn.Module):
    """Works on the batch size that it was traced with, and on no other."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(int(x.shape[0]), -1) + torch.zeros(len(x.tolist()), 1)


def test_an_export_for_one_batch_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxExportError):
        verified_session(FixedBatch(), torch.ones(2, 3), tmp_path / "fixed.onnx")


class Nan(nn.Module):
    """Overflows."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0).log() * 0


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxExportError, match="nan"):
        verified_session(Nan(), torch.ones(2, 3), tmp_path / "nan.onnx")


class Unexportable(nn.Module):
    """Leaves PyTorch."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no way through")


@pytest.mark.slow
def test_what_no_exporter_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxExportError, match="no way through"):
        to_onnx(Unexportable(), torch.ones(2, 3), tmp_path / "none.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_newer_exporter_has_a_free_batch_size_too(tmp_path: Path) -> None:
    model = network().eval()
    _export(model, torch.rand(2, 3, 8, 8), tmp_path / "newer.onnx", ["output"], dynamo=True)
    batch = torch.rand(5, 3, 8, 8)
    found = run_onnx(open_session(tmp_path / "newer.onnx", threads=1), batch.numpy())
    np.testing.assert_allclose(found, model(batch).detach().numpy(), rtol=1e-4, atol=1e-6)


def noted(path: Path) -> None:
    """Writes a graph with another inside, in which an exporter noted where its code lies."""
    kind, shape = onnx.TensorProto.FLOAT, ["batch", 3]
    one, other = (onnx.helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["z"], doc_string="/home/someone/inner.py")],
        "inner", [], [onnx.helper.make_tensor_value_info("z", kind, shape)],
    )  # fmt: skip
    always = onnx.helper.make_tensor("always", onnx.TensorProto.BOOL, [], [True])
    node = onnx.helper.make_node("If", ["always"], ["y"], then_branch=inner, else_branch=inner)
    entry = node.metadata_props.add()
    entry.key, entry.value = "stack_trace", "/home/someone/outer.py"
    graph = onnx.helper.make_graph([node], "outer", [one], [other], [always])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_facts_replace_what_the_exporter_noted(tmp_path: Path) -> None:
    path = tmp_path / "noted.onnx"
    noted(path)
    assert b"/home/someone" in path.read_bytes()
    annotate(path, {"classes": "[]", "licence": "apache-2.0"})
    assert b"/home/someone" not in path.read_bytes()
    session = open_session(path.read_bytes(), threads=1)
    facts = session.get_modelmeta().custom_metadata_map
    assert facts == {"classes": "[]", "licence": "apache-2.0"}
    assert run_onnx(session, np.ones((2, 3), np.float32)).tolist() == [[-1.0] * 3] * 2


class Two(nn.Module):
    """Has two outputs, of which the second cannot be traced."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x if x.min() > 0 else 2 * x


def test_every_output_is_verified(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    to_onnx(Two(), torch.ones(2, 3), path, ["one", "two"])
    with pytest.raises(OnnxExportError, match="differs from PyTorch"):
        verify(Two(), torch.ones(2, 3), path)
    to_onnx(Two(), -torch.ones(2, 3), path, ["one", "two"])
    session = verify(Two(), torch.ones(2, 3), path)
    assert [each.name for each in session.get_outputs()] == ["one", "two"]


class Printing(nn.Module):
    """Prints as libraries in Python and in C do."""

    def forward(self, x: Tensor) -> Tensor:
        sys.stdout.write("from Python\n")
        ctypes.CDLL(None).printf(b"from C\n")
        os.write(1, b"from the system\n")
        return x * 2


def timm_prefix(name: str, **settings: object) -> tuple[nn.Module, Tensor]:
    model = timm.create_model(name, num_classes=0, **settings).eval()
    return model, torch.rand(2, *model.pretrained_cfg["input_size"])


PRINTERS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "python, c and system": lambda: (Printing(), torch.rand(2, 3)),
    "rms norm": lambda: timm_prefix("test_vit4"),
    "naflex": lambda: timm_prefix(
        "naflexvit_base_patch16_gap", embed_dim=24, depth=1, num_heads=1
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "printer",
    [
        "python, c and system",
        pytest.param("rms norm", marks=pytest.mark.slow),
        pytest.param("naflex", marks=pytest.mark.slow),
    ],
)
def test_what_exporters_print_is_kept_off_standard_output(
    printer: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module, example = PRINTERS[printer]()
    sys.stdout.write("before\n")
    try:
        to_onnx(module, example, tmp_path / "network.onnx")
    except OnnxExportError:
        assert printer == "naflex", "it may be beyond the exporters"
    sys.stdout.write("after\n")
    assert capfd.readouterr().out == "before\nafter\n"


def test_standard_output_comes_back_after_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OnnxExportError):
        to_onnx(Unexportable(), torch.rand(2, 3), tmp_path / "network.onnx")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"
