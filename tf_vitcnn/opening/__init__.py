"""Any Keras model becomes a subject: its calls traced into one flat graph, its sublayers recognised and shown."""

from tf_vitcnn.opening.expose import About, about, expose, open_attention
from tf_vitcnn.opening.roles import Addition, Layout, additions, layout
from tf_vitcnn.opening.structure import structure

__all__ = [
    "About",
    "Addition",
    "Layout",
    "about",
    "additions",
    "expose",
    "layout",
    "open_attention",
    "structure",
]
