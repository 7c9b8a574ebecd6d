"""Capture: an ordinary module and its example inputs in, a proven graph out."""

from frostline.compiler.capture.choose import FRONT_ENDS, Attempt, FrontEnd, attempts, capture

__all__ = ["FRONT_ENDS", "Attempt", "FrontEnd", "attempts", "capture"]
