"""From a small folder of labelled images to a proven, shippable classifier."""

__version__ = "0.1.0"
