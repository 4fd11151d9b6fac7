"""Any Keras functional model becomes a subject: its sublayers shown, its wiring changed, its graph cut."""

from tf_vitcnn.surgery.segments import Segment, segments

__all__ = ["Segment", "segments"]
