"""What tokens look like inside: how their norms spread, and which stand far above the rest."""
