"""What a user declares: plain data that imports no torch."""

from frostline.schedules.curves import Cosine, Curve, FlippedPower, Instant, Linear, Power
from frostline.schedules.durations import Duration
from frostline.schedules.load import edit_spec, load_spec, read_spec, spec_from_data
from frostline.schedules.spec import ORDERS, ROLES, Override, ScheduleSpec, Surrogate

__all__ = [
    "ORDERS", "ROLES", "Cosine", "Curve", "Duration", "FlippedPower", "Instant", "Linear", "Override", "Power",
    "ScheduleSpec", "Surrogate", "edit_spec", "load_spec", "read_spec", "spec_from_data",
]  # fmt: skip
