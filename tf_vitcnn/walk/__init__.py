"""A subject over images, in bounded memory: feed, per-image passes, Gram passes, sums, and the plan of what fits."""
