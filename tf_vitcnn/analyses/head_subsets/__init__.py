"""Which heads of the first encoder block see like the lower layers of a ResNet (Fig. 5)."""
