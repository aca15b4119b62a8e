"""ONNX files in ONNX Runtime. Nothing here imports torch."""

import os
from pathlib import Path

import onnxruntime as ort

from headstart.inputs.machine import available_cores

_OTHER_FILES = "session.model_external_initializers_file_folder_path"
"""Setting for the folder of other files; ONNX Runtime looks into the working directory else."""


def open_session(model: Path | bytes, threads: int) -> ort.InferenceSession:
    """Opens an ONNX file on the CPU. A file that is given as bytes may not refer to other files.

    Args:
        model: ONNX file, or its bytes.
        threads: Threads for one batch.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, too
    if isinstance(model, bytes):
        options.add_session_config_entry(_OTHER_FILES, os.devnull)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def thread_count() -> int:
    """Returns the threads for one batch: `OMP_NUM_THREADS`, or the cores of this process."""
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return (int(stated) if stated.isdecimal() else 0) or available_cores()
