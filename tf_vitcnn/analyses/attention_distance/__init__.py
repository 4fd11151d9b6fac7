"""How far each attention head looks (Fig. 3, 4, C.5, C.6)."""
