"""Capture: an ordinary module and its example inputs in, a proven graph out."""

from frostline.compiler.capture.choose import FRONT_ENDS, FrontEnd, capture

__all__ = ["FRONT_ENDS", "FrontEnd", "capture"]
