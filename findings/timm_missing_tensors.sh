#!/usr/bin/env bash
# timm 1.0.31 loads a file of pretrained weights that lacks layers without an error or a warning if
# the model is made without a classifier (num_classes=0, as for features): what is absent stays at
# random, so that two models made from one file give different features. With the file's own number
# of classes the same file is refused. Expected: an error in both cases, or at least a warning.
# headstart asks timm's log for absent parameters and refuses the file.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 timm==1.0.31 safetensors==0.8.0
cd "$work"
venv/bin/python -W error - <<'PYTHON'
import logging

import timm
import torch
from safetensors.torch import save_file

logging.basicConfig(level=logging.WARNING)
state = timm.create_model("resnet18", num_classes=1000).state_dict()
del state["conv1.weight"]
save_file(state, "resnet18.safetensors")


def made(classes):
    overlay = {"file": "resnet18.safetensors"}
    return timm.create_model(
        "resnet18", pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
    ).eval()


images = torch.ones(1, 3, 64, 64)
with torch.inference_mode():
    one, other = made(0)(images), made(0)(images)
print(f"features of two models from one file differ by up to {(one - other).abs().max():.3f}")
assert not torch.equal(one, other)
try:
    made(1000)
except RuntimeError as error:
    print("with the classifier:", str(error).splitlines()[-1].strip())
else:
    raise SystemExit("with the classifier it is loaded, too")
print("as described")
PYTHON
# Seen on 2026-11-30, Python 3.11.7:
#   features of two models from one file differ by up to 0.276
#   with the classifier: Missing key(s) in state_dict: "conv1.weight".
