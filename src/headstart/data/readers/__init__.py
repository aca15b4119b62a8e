"""Readers: one module a family of formats, all with a description first and pixels on demand."""
