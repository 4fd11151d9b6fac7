"""How similar are any two layers: minibatch CKA of all sublayers, within a model or across two (Fig. 1, 2, 8, 12)."""
