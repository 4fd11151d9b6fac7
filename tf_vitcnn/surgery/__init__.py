"""A model that shows its taps, cut: into segments for the walk, or off its skip connections."""

from tf_vitcnn.surgery.alike import Likeness
from tf_vitcnn.surgery.segments import Segment, live, segments
from tf_vitcnn.surgery.skips import without_skips

__all__ = [
    "Likeness",
    "Segment",
    "live",
    "segments",
    "without_skips",
]
