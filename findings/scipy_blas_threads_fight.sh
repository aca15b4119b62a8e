#!/usr/bin/env bash
# numpy 2.4.6 and scipy 1.17.1 (Linux wheels): scipy.optimize.minimize(method="L-BFGS-B") on many
# variables makes the matrix products of its loss in NumPy take twice as long. Both wheels bring an
# OpenBLAS with threads of its own, and the optimizer's vectors are handled by that of SciPy. After
# each call its threads keep waiting actively, on the cores that NumPy's product needs. Expected:
# what one library did before changes nothing for the next. With SciPy's OpenBLAS limited to one
# thread, NumPy's keeping all of its own, the same solution comes sooner. Needs two cores or more.
set -eu
test "$(nproc)" -ge 2 || { echo "needs two cores"; exit 1; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.4.6 scipy==1.17.1 threadpoolctl==3.6.0
cat > "$work/fight.py" <<'PYTHON'
import statistics
import time
from contextlib import nullcontext

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

rng = np.random.default_rng(0)
features = rng.standard_normal((2700, 2700)).astype(np.float32)
wanted = (features @ rng.standard_normal((2700, 200)).astype(np.float32)) / 50
pools = ThreadpoolController()
files = [each["filepath"] for each in pools.info() if each["internal_api"] == "openblas"]
assert len(files) == 2, files
scipys = pools.select(filepath=[each for each in files if "scipy.libs" in each])


def solve():
    products = []

    def loss(flat):
        weight = flat.astype(np.float32).reshape(2700, 200)
        began = time.perf_counter()
        error = features @ weight - wanted
        slope = features.T @ error
        products.append(time.perf_counter() - began)
        return float((error**2).sum()) / 5400, slope.ravel().astype(float) / 2700

    options = {"maxiter": 15, "maxcor": 10}
    found = minimize(loss, np.zeros(2700 * 200), jac=True, method="L-BFGS-B", options=options)
    return statistics.median(products), found.x


ratios = []
for _ in range(5):
    together, one = solve()
    with scipys.limit(limits=1):
        apart, other = solve()
    ratios.append(together / apart)
print("same solution:", bool(np.allclose(one, other, atol=1e-4)))
print(f"products, times as long beside SciPy's threads: {statistics.median(ratios):.1f}")
assert np.allclose(one, other, atol=1e-4)
assert statistics.median(ratios) > 1.3, ratios
PYTHON
"$work/venv/bin/python" "$work/fight.py"
echo "as described"
# Seen on 2026-12-01, two cores of an AMD EPYC with AVX2, Python 3.11.7:
#   same solution: True
#   products, times as long beside SciPy's threads: 1.8
