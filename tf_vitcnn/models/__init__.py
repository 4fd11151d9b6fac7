"""Keras functional models whose output is the dict of their taps."""
