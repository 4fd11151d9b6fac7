"""Readers of released weights: one file per source format."""
