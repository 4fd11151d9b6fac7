"""CKA of every token with every input patch (paper, Fig. 9, 10, D.1 to D.3)."""
