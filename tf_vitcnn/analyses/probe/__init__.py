"""Accuracy of linear classifiers on every layer's representation (paper, Fig. 11, 13, D.4, F.1 to F.3)."""
