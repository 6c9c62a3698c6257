"""Encode plans: whether a camera is captured in its final codec, or losslessly and encoded later."""

from .calibration import calibrate
from .choice import EncodePlan, LiveSpeed, choose_plans, live_candidates
from .speeds import SpeedQuestion, speeds_path

__all__ = [
    "EncodePlan",
    "LiveSpeed",
    "SpeedQuestion",
    "calibrate",
    "choose_plans",
    "live_candidates",
    "speeds_path",
]
