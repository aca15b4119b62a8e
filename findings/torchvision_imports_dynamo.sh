#!/usr/bin/env bash
# `import torchvision` 0.29.1 loads all of torch._dynamo (the tracer of torch.compile), although
# nothing is compiled: torchvision/ops/roi_align.py defines a decorator that "avoids eagerly
# importing dynamo", and above it stands `from torch._dynamo.utils import is_compile_supported`.
# timm imports torchvision, so `import timm` loads it as well; and timm/models/naflexvit.py decorates
# a method with torch.compiler.disable, which loads it by itself. Expected: torch._dynamo stays out
# until something is compiled, as after `import torch`.
# headstart's commands that train nothing do without torch; what trains pays for this import.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 timm==1.0.31
cd "$work"
venv/bin/python - <<'PYTHON'
import sys
import time

import torch

print("after import torch:", "torch._dynamo" in sys.modules)
assert "torch._dynamo" not in sys.modules
count, began = len(sys.modules), time.monotonic()
import torch._dynamo.utils  # what roi_align.py asks for

alone, added = time.monotonic() - began, len(sys.modules) - count
began = time.monotonic()
import torchvision

rest = time.monotonic() - began
print(f"torch._dynamo: {added} modules, {alone / (alone + rest):.0%} of the time of torchvision")
assert added > 100
PYTHON
venv/bin/python - <<'PYTHON'
import sys

import torchvision.transforms

print("after import torchvision.transforms:", "torch._dynamo" in sys.modules)
assert "torch._dynamo" in sys.modules
PYTHON
grep -n "disable_compiler" venv/lib/python3*/site-packages/timm/models/naflexvit.py | head -3
grep -n "_dynamo.utils import\|avoids eagerly" venv/lib/python3*/site-packages/torchvision/ops/roi_align.py
echo "as described"
