#!/usr/bin/env bash
# A module traced by torch.fx (torch 2.14.1) that raises an error also prints a report of it to
# standard error: traceback, generated code and a marker. It does so where the caller catches the
# error, too, so that a program which only asks "does this network take images of 96 pixels?" writes
# twenty lines to the terminal. It happens in GraphModule.__call__, and only where the innermost
# frame is the generated code; the error that arrives has lost its traceback. The untraced network,
# and the traced one where its `forward` is called, print nothing.
# Here a network adds an embedding of positions, and is given images of a size that it does not fit.
# Expected: an error that is caught leaves nothing on standard error, as without the trace.
# headstart keeps standard error apart where it asks a network such a question.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.1
cd "$work"
cat > ask.py <<'PYTHON'
import io
from contextlib import redirect_stderr

import torch
from torch import fx, nn


class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 16, 16)
        self.places = nn.Parameter(torch.zeros(1, 196, 8))

    def forward(self, images):
        return self.embed(images).flatten(2).transpose(1, 2) + self.places


network = Patches()
traced = fx.symbolic_trace(network)
assert traced(torch.zeros(1, 3, 224, 224)).shape == (1, 196, 8)
small = torch.zeros(1, 3, 96, 96)


def asked(question):
    heard = io.StringIO()
    with torch.no_grad(), redirect_stderr(heard):
        try:
            question(small)
        except Exception as error:
            return type(error).__name__, len(heard.getvalue().splitlines())
    return "", 0


alone, through = asked(network), asked(traced)
direct = asked(traced.forward)
print("network:", *alone, "| traced:", *through, "| its forward:", *direct)
assert alone == ("RuntimeError", 0), "the network raises and prints nothing"
assert through[0] == "RuntimeError" and through[1] > 10, "the traced one prints what it raises"
assert direct[0] == "RuntimeError" and direct[1] == 0, "and does not where __call__ is passed over"
PYTHON
venv/bin/python ask.py
echo "as described"
