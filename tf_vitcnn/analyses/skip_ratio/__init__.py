"""How much of a layer passes by the skip connection: |z| / |f(z)| and cos(z, f(z)) at every residual addition."""
