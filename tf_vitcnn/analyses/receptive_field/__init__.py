"""Which pixels one position of a layer depends on (Fig. 6, C.1 to C.4)."""
