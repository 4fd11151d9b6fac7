"""The look of every figure: one theme, shared marks."""
