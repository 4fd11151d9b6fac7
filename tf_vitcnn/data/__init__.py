"""Images: where they come from (`sources`) and how they reach a network (`images`)."""
