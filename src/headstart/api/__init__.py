"""The public functions: one a file."""
