"""Any Keras model becomes a subject: its sublayers shown, its wiring changed, its graph cut."""

from tf_vitcnn.surgery.alike import Likeness
from tf_vitcnn.surgery.expose import About, about, expose, open_attention
from tf_vitcnn.surgery.roles import Addition, Layout, additions, layout
from tf_vitcnn.surgery.segments import Segment, live, segments
from tf_vitcnn.surgery.skips import without_skips
from tf_vitcnn.surgery.structure import structure

__all__ = [
    "About",
    "Addition",
    "Layout",
    "Likeness",
    "Segment",
    "about",
    "additions",
    "expose",
    "layout",
    "live",
    "open_attention",
    "segments",
    "structure",
    "without_skips",
]
