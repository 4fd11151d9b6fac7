"""Does the finding depend on the measure: other measures of the same pairs of layers as cka."""
