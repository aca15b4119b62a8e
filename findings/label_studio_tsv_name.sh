#!/usr/bin/env bash
# label-studio-sdk 2.1.2 writes an export of the form TSV to result.csv, with tabs in it. Read by its
# name it is a table with one column. JSON_MIN and CSV give one choice as a text and several as a
# dictionary, and a task without an answer has no field for it.
# Expected: result.tsv; one type for the answers.
# headstart looks at the first line of a CSV file, and takes both types.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet label-studio-sdk==2.1.2
cd "$work"
venv/bin/python - <<'PYTHON' 2>/dev/null
import csv
import json
from pathlib import Path

from label_studio_sdk.converter import Converter

CONFIG = """<View><Image name="image" value="$image"/><Choices name="choice" toName="image">
<Choice value="ant"/><Choice value="bee"/></Choices></View>"""


def task(number, choices):
    answer = {"id": "x", "from_name": "choice", "to_name": "image", "type": "choices",
              "value": {"choices": choices}}
    given = {"id": number, "completed_by": 1, "was_cancelled": False, "created_at": "",
             "updated_at": "", "lead_time": 1.0, "result": [answer] if choices else []}
    return {"id": number, "data": {"image": f"/data/upload/1/0a1b2c3d-{number}.jpg"},
            "annotations": [given]}


tasks = [task(1, ["ant"]), task(2, ["ant", "bee"]), task(3, [])]
Path("tasks.json").write_text(json.dumps(tasks))
converter = Converter(config=CONFIG, project_dir=None, upload_dir=".")
for form in ("CSV", "TSV", "JSON_MIN"):
    converter.convert("tasks.json", form, form, is_dir=False)
    names = sorted(path.name for path in Path(form).iterdir())
    print(f"{form}: {names}")
    if form == "TSV":
        assert names == ["result.csv"]
text = Path("TSV/result.csv").read_text()
print("TSV begins:", repr(text[:40]))
assert len(next(csv.reader(text.splitlines()))) == 1
records = json.loads(Path("JSON_MIN/result.json").read_text())
print("choices in JSON_MIN:", [each.get("choice", "no field") for each in records])
assert records[0]["choice"] == "ant"
assert records[1]["choice"] == {"choices": ["ant", "bee"]}
assert "choice" not in records[2]
print("as described")
PYTHON
# Seen on 2026-11-29, Python 3.11.7:
#   CSV: ['result.csv']   TSV: ['result.csv']   JSON_MIN: ['result.json']
#   choices in JSON_MIN: ['ant', {'choices': ['ant', 'bee']}, 'no field']
