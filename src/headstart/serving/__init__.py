"""A classifier as a service over HTTP. Nothing here imports torch."""
