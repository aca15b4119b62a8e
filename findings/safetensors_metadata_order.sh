#!/usr/bin/env bash
# safetensors 0.8.0: save_file with the same tensors and the same metadata gives different bytes from
# call to call, in one process too, as soon as the metadata has two entries or more: their order in
# the header is random. With one entry the bytes are the same each time.
# Expected: a format without timestamps, written twice from the same input, is the same file.
# headstart keeps one JSON entry, so that a run that is repeated gives the same files.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
from safetensors.numpy import save

tensors = {"vectors": np.zeros((2, 2), np.float32)}
for entries in (1, 2, 6):
    metadata = {f"key{number}": "value" for number in range(entries)}
    different = len({save(tensors, metadata) for _ in range(200)})
    print(f"{entries} entries of metadata: {different} different files of 200")
    assert (different == 1) == (entries == 1)
print("as described")
PYTHON
# Seen on 2026-11-29, Python 3.11.7:
#   1 entries of metadata: 1 different files of 200
#   2 entries of metadata: 2 different files of 200
#   6 entries of metadata: 162 different files of 200
