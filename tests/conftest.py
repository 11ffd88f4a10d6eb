"""No property is timed: how long an example takes is the machine's business."""

from hypothesis import settings

settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")
