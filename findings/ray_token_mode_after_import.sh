#!/usr/bin/env bash
# ray 2.60.0 (Linux): RAY_AUTH_MODE=token that a program sets between `import ray` and `ray.init("local")`
# reaches the processes that init starts, but not the driver, which read its configuration at the import.
# The driver then fails against its own cluster, after 20 seconds, with "token is missing or incorrect".
# Unset, the same call turns the mode on by itself, for all of them.
# Expected: init reads the variable for the driver and the cluster alike, as it does RAY_AUTH_TOKEN.
# headstart sets the mode before the import, or not at all.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ray==2.60.0
start() {  # start WHEN: starts a cluster with the mode set then, and says what happened
  HOME="$work" RAY_USAGE_STATS_ENABLED=0 "$work/venv/bin/python" - "$1" 2>"$work/messages" <<'PYTHON'
import os
import secrets
import sys

when = sys.argv[1]
if when == "before":
    os.environ["RAY_AUTH_MODE"] = "token"
import ray

if when == "after":
    os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
try:
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=40)
    print(f"{when}: started, mode {os.environ['RAY_AUTH_MODE']}")
except Exception as error:
    print(f"{when}: failed; {'missing or incorrect' in str(error) and 'token is missing or incorrect'}")
PYTHON
}
found="$(start before; start after; start never)"
echo "$found"
[ "$found" = "before: started, mode token
after: failed; token is missing or incorrect
never: started, mode token" ]
echo "as described"
# Seen on 2026-11-29, Python 3.11.7:
#   before: started, mode token
#   after: failed; token is missing or incorrect
#   never: started, mode token
