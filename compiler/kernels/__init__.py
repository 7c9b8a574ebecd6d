"""Kernels for packed signs."""
