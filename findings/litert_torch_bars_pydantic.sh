#!/usr/bin/env bash
# litert-torch 0.10.0 (Linux): it cannot be installed beside pydantic 2.14.3. Its converter, litert-converter 0.5.0, pins
# xdsl 0.28.0, which allows typing-extensions below 4.13 only, and pydantic from 2.12 on needs a later one. So do the
# converters of litert-torch 0.9.0 and 0.9.3. The runtime alone, ai-edge-litert 2.3.0, installs.
# Expected: it installs, as torch, NumPy and all else that it names fit.
# headstart needs pydantic 2.12, so it has no export for LiteRT. Installed without its pins, the converter works with
# typing-extensions 4.16.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
try() {  # try PACKAGE: whether pip can install it beside pydantic
  if "$work/venv/bin/pip" install --dry-run pydantic==2.14.3 "$1" >"$work/said" 2>&1; then
    echo "$1: installs"
  else
    echo "$1: $(grep -o 'xdsl .* depends on .*' "$work/said" | head -1)"
  fi
}
found="$(try litert-torch==0.10.0; try ai-edge-litert==2.3.0)"
echo "$found"
[ "$found" = "litert-torch==0.10.0: xdsl 0.28.0 depends on typing-extensions<4.13 and >=4.7
ai-edge-litert==2.3.0: installs" ]
echo "as described"
# Seen on 2026-11-30, Python 3.11.7:
#   litert-torch==0.10.0: xdsl 0.28.0 depends on typing-extensions<4.13 and >=4.7
#   ai-edge-litert==2.3.0: installs
