#!/usr/bin/env bash
# ray 2.60.0 (Linux): ray.init("local", _node_ip_address="127.0.0.1", include_dashboard=False), a
# cluster for this process alone, listens on every network interface with its control store, its
# raylet, its workers and the driver itself. The address is replaced by that of a network interface.
# Expected: a cluster called local, given the loopback address, listens there. No option does it.
# headstart therefore starts Ray with a token that is made for the process.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ray==2.60.0 psutil==7.2.2
token=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d " \n")
HOME="$work" RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$token \
  "$work/venv/bin/python" - <<'PYTHON'
import psutil
import ray

ray.init(
    "local", num_cpus=1, _node_ip_address="127.0.0.1", include_dashboard=False,
    log_to_driver=False, logging_level=40,
)
print("control store at", ray.get_runtime_context().gcs_address.rpartition(":")[0])
everywhere, loopback = [], []
this = psutil.Process()
for process in (this, *this.children(recursive=True)):
    for each in process.net_connections("inet"):
        if each.status == psutil.CONN_LISTEN:
            wide = each.laddr.ip in {"::", "0.0.0.0"}
            (everywhere if wide else loopback).append((process.name(), each.laddr.ip))
print("listens on all interfaces:", ", ".join(sorted(name for name, _ in everywhere)))
print("listens elsewhere:", ", ".join(f"{name} at {ip}" for name, ip in sorted(loopback)))
assert {"gcs_server", "raylet"} <= {name for name, _ in everywhere}
assert not any(ip.startswith("127.") for _, ip in loopback)
ray.shutdown()
print("as described")
PYTHON
# Seen on 2026-11-29, Python 3.11.7, on a machine whose address is 192.0.2.2:
#   control store at 192.0.2.2
#   listens on all interfaces: gcs_server, python, ray::IDLE, raylet, raylet
#   listens elsewhere: ray::RuntimeEnvAgent at 192.0.2.2
