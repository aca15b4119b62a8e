"""Exports of a run to other runtimes, each compared with the recorded predictions of the run."""
