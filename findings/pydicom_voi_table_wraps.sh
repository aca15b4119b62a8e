#!/usr/bin/env bash
# pydicom 3.0.2: `apply_voi` (and `apply_voi_lut`) with a table of 8-bit entries keeps the index into
# the table in 8 bits as well, so that it wraps round at 256. A table of 4,096 entries, as 12-bit
# scanners write for an 8-bit screen, shows the stored value 300 as entry 44, without a warning.
# The same table with 10-bit entries is right.
# Expected (DICOM PS3.3 C.11.2.1.1): entry 300. headstart takes the entries itself.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pydicom==3.0.2 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import pydicom
from pydicom.pixels import apply_voi

print("pydicom", pydicom.__version__)
values = np.array([0, 44, 255, 300, 4095], np.uint16)


def shown(bits):
    item = pydicom.Dataset()
    item.LUTDescriptor = [4096, 0, bits]
    item.add_new("LUTData", "US", [n // 16 for n in range(4096)])
    file = pydicom.Dataset()
    file.VOILUTSequence = pydicom.Sequence([item])
    return apply_voi(values, file).tolist()


expected = (values // 16).tolist()
print("expected       ", expected)
print("8-bit entries  ", shown(8))
print("10-bit entries ", shown(10))
assert shown(10) == expected
assert shown(8) == [0, 2, 15, 2, 15]
PYTHON
