"""Any Keras functional model becomes a subject: its sublayers shown, its wiring changed, its graph cut."""

from tf_vitcnn.surgery.alike import Likeness
from tf_vitcnn.surgery.attention import open_attention, opener
from tf_vitcnn.surgery.expose import expose
from tf_vitcnn.surgery.graph import require_graph
from tf_vitcnn.surgery.roles import Addition, Layout, additions, layout, stage
from tf_vitcnn.surgery.segments import Segment, segments
from tf_vitcnn.surgery.skips import without_skips

__all__ = [
    "Addition",
    "Layout",
    "Likeness",
    "Segment",
    "additions",
    "expose",
    "layout",
    "open_attention",
    "opener",
    "require_graph",
    "segments",
    "stage",
    "without_skips",
]
