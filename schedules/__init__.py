"""What a user declares: plain data that imports no torch."""

from frostline.schedules.curves import Cosine, Curve, Exponential, FlippedPower, Instant, Linear, Power
from frostline.schedules.durations import Duration
from frostline.schedules.load import edit_spec, fields_of, load_spec, read_spec, spec_from_data
from frostline.schedules.spec import (
    ORDERS,
    ROLES,
    SIGNS,
    ZERO_ONE,
    DepthRule,
    Gradient,
    Levels,
    Override,
    Per,
    Refresh,
    Scale,
    ScheduleSpec,
    Transition,
)
from frostline.schedules.surrogates import (
    Clipped,
    Identity,
    NoSurrogate,
    Polynomial,
    Reste,
    Surrogate,
    Tanh,
)

__all__ = [
    "ORDERS", "ROLES", "SIGNS", "ZERO_ONE", "Clipped", "Cosine", "Curve", "DepthRule", "Duration",
    "Exponential", "FlippedPower", "Gradient", "Identity", "Instant", "Levels", "Linear", "NoSurrogate",
    "Override", "Per", "Polynomial", "Power", "Refresh", "Reste", "Scale", "ScheduleSpec", "Surrogate", "Tanh",
    "Transition", "edit_spec", "fields_of", "load_spec", "read_spec", "spec_from_data",
]  # fmt: skip
