#!/usr/bin/env bash
# timm 1.0.31 saves a folder for the Hugging Face hub (`save_for_hf`) whose config.json holds the
# number of classes twice: at its root, and among the arguments of the model. timm reads it back.
# transformers 5.24.0, which reads timm's folders, passes both to `timm.create_model` and fails.
# Expected: what timm saves for the hub loads in both. headstart takes the arguments out.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 timm==1.0.31 transformers==5.24.0
cd "$work"
venv/bin/python - <<'PYTHON'
import json

import timm
from timm.models import save_for_hf
from transformers import AutoModelForImageClassification

model = timm.create_model("resnet18", num_classes=2)
save_for_hf(model, "saved", model_config={"label_names": ["ant", "bee"]}, safe_serialization=True)
config = json.load(open("saved/config.json"))
print("num_classes:", config["num_classes"], "; model_args:", config["model_args"])
assert config["model_args"]["num_classes"] == config["num_classes"] == 2
timm.create_model("local-dir:saved", pretrained=True)
print("timm loads it")
try:
    AutoModelForImageClassification.from_pretrained("saved")
except Exception as error:
    print("transformers:", str(error).strip().splitlines()[-1])
else:
    raise SystemExit("transformers loads it, too")
del config["model_args"]
json.dump(config, open("saved/config.json", "w"))
AutoModelForImageClassification.from_pretrained("saved")
print("without the arguments transformers loads it")
print("as described")
PYTHON
