"""Any Keras functional model becomes a subject: its sublayers shown, its wiring changed, its graph cut."""

from tf_vitcnn.surgery.expose import expose
from tf_vitcnn.surgery.roles import Addition, Layout, additions, layout, stage
from tf_vitcnn.surgery.segments import Segment, segments

__all__ = ["Addition", "Layout", "Segment", "additions", "expose", "layout", "segments", "stage"]
