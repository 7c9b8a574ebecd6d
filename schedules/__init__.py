"""What a user declares: plain data that imports no torch."""

from frostline.schedules.curves import Cosine, Curve, FlippedPower, Instant, Linear, Power
from frostline.schedules.durations import Duration
from frostline.schedules.load import edit_spec, load_spec, read_spec, spec_from_data
from frostline.schedules.spec import (
    ORDERS,
    ROLES,
    SIGNS,
    ZERO_ONE,
    DepthRule,
    Levels,
    Override,
    Per,
    ScheduleSpec,
    Surrogate,
)

__all__ = [
    "ORDERS", "ROLES", "SIGNS", "ZERO_ONE", "Cosine", "Curve", "DepthRule", "Duration", "FlippedPower", "Instant",
    "Levels", "Linear", "Override", "Per", "Power", "ScheduleSpec", "Surrogate", "edit_spec", "load_spec", "read_spec",
    "spec_from_data",
]  # fmt: skip
