"""Images: where they come from and how they reach a network."""
