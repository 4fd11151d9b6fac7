"""A sentence of the paper, the tables that it speaks of, and what they say of it."""
