#!/usr/bin/env bash
# onnxruntime 1.32.0 (Linux, CPU wheel): `import onnxruntime` alone writes a device id and a database
# of events into the home folder. Calling disable_telemetry_events() after the import comes too late:
# the files are there already. With ORT_DISABLE_TELEMETRY=1 set before the import there are none.
# Expected: nothing is written before a session is made, and the documented call prevents it.
# headstart sets the variable before anything imports onnxruntime.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0
files() {  # files HOME-FOLDER: what lies in it
  (cd "$1" && find . -type f | sort)
}
mkdir "$work/plain" "$work/late" "$work/off"
run() { env -u XDG_CACHE_HOME -u ORT_DISABLE_TELEMETRY HOME="$1" "${@:2}"; }
run "$work/plain" "$work/venv/bin/python" -c "import onnxruntime"
run "$work/late" "$work/venv/bin/python" -c \
  "import onnxruntime; onnxruntime.disable_telemetry_events()"
run "$work/off" env ORT_DISABLE_TELEMETRY=1 "$work/venv/bin/python" -c "import onnxruntime"
echo "import alone:            $(files "$work/plain" | tr '\n' ' ')"
echo "disabled after import:   $(files "$work/late" | tr '\n' ' ')"
echo "switched off beforehand: $(files "$work/off" | tr '\n' ' ')"
[ "$(files "$work/plain" | grep -c deviceid)" = 1 ]
[ "$(files "$work/late" | grep -c deviceid)" = 1 ]
[ -z "$(files "$work/off")" ]
echo "as described"
# Seen on 2026-11-29, Python 3.11.7:
#   import alone:            ./.cache/Microsoft/DeveloperTools/.onnxruntime/deviceid ./.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db
#   disabled after import:   (the same two files)
#   switched off beforehand: (none)
