"""Tables: what a table may hold (schema), how it is written and read whole, and what made it (provenance)."""
