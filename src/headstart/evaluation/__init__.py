"""Metrics, calibration, conformal prediction and statistics."""
