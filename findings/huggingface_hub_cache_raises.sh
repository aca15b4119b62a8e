#!/usr/bin/env bash
# huggingface_hub 2.4.0: the docstring of try_to_load_from_cache says that it raises no exception for a
# file that is not cached, and returns None. For the id of a repository with two hyphens in a row it
# raises HFValidationError. A cache may hold a folder of such a name: scan_cache_dir lists it.
# headstart's list of cached backbones leaves such a folder out.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet huggingface_hub==2.4.0
cd "$work"
HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_CACHE="$work/cache" venv/bin/python - <<'PYTHON'
import os
from pathlib import Path

from huggingface_hub import scan_cache_dir, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

snapshot = Path(os.environ["HF_HUB_CACHE"], "models--timm--a--b", "snapshots", "0" * 40)
snapshot.mkdir(parents=True)
(snapshot / "config.json").write_text("{}")
print("not cached:", try_to_load_from_cache("timm/ab", "config.json"))
print("listed:", [each.repo_id for each in scan_cache_dir().repos])
try:
    found = try_to_load_from_cache("timm/a--b", "config.json")
except HFValidationError as error:
    print("timm/a--b:", type(error).__name__)
else:
    raise SystemExit(f"it returned {found!r}")
print("as described")
PYTHON
# Seen on 2026-11-30, Python 3.11.7:
#   not cached: None
#   listed: ['timm/a/b']
#   timm/a--b: HFValidationError
