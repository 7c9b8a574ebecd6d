"""Lowering: from a binary graph to a deployable model, one target a file."""

from frostline.passes.lowering.targets import TARGETS, lower

__all__ = ["TARGETS", "lower"]
