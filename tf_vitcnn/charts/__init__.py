"""How tables are drawn: one theme, three marks, and the list of an analysis' figures.

    from tf_vitcnn.charts import Drawing, marks

    def draw(table):  # what `tf_vitcnn.chart` shows
        return heatmap_of_tokens(table)

    DRAWINGS = (  # the report's figures
        Drawing(("7", "E.1"), "Norm ratio of every token", "Rows are layers ...", draw=heatmap_of_tokens),
        Drawing(("7", "E.2"), "Norm ratio over depth", "Lines ...", draw=lines, together=True),
    )

in the charts.py beside an analysis, which is imported when something is drawn.
Charts never compute: a chart's fields are columns of its table's Schema (or positions in `marks.DERIVED`).
"""

from tf_vitcnn.charts import marks, notebook, theme, words
from tf_vitcnn.charts.drawing import Drawing, Panel, side_by_side
from tf_vitcnn.charts.notebook import show

__all__ = ["Drawing", "Panel", "marks", "show", "side_by_side", "theme", "words"]

notebook.enable()
