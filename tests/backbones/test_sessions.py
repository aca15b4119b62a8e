import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from headstart.backbones.sessions import open_session, thread_count


@pytest.mark.parametrize(
    ("stated", "threads"), [("3", 3), ("2,4", 2), ("0", 5), ("", 5), ("many", 5), ("-1", 5)]
)
def test_threads_are_those_that_were_asked_for_or_the_cores_of_the_process(
    stated: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 7})
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert thread_count() == threads


def test_without_a_wish_all_cores_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_count() == 1


def graph(operation: str = "Add", domain: str = "", location: str = "") -> bytes:
    """Returns a file that adds four numbers, which it holds or refers to, to its input."""
    held = onnx.numpy_helper.from_array(np.ones(4, np.float32), "held")
    if location:
        held.ClearField("raw_data")
        held.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "16"}.items():
            entry = held.external_data.add()
            entry.key, entry.value = key, value
    one, other = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    node = helper.make_node(operation, ["x", "held"], ["y"], domain=domain)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("someone.else", 1)]
    made = helper.make_graph([node], "graph", [one], [other], [held])
    content: bytes = helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def test_a_file_that_holds_everything_is_opened() -> None:
    (found,) = open_session(graph(), 1).run(None, {"x": np.ones(4, np.float32)})
    assert found.tolist() == [2.0] * 4


@pytest.mark.parametrize("location", ["beside.bin", "../below.bin", "{here}/beside.bin"])
def test_a_file_that_refers_to_another_is_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for path in (here / "beside.bin", tmp_path / "below.bin"):
        path.write_bytes(np.ones(4, np.float32).tobytes())
    monkeypatch.chdir(here)
    with pytest.raises(Exception, match="External data path"):
        open_session(graph(location=location.format(here=here)), 1)


def test_operators_of_others_are_refused() -> None:
    with pytest.raises(Exception, match=r"someone\.else"):
        open_session(graph("Run", "someone.else"), 1)
