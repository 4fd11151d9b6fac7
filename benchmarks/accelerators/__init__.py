"""What the compilers of accelerators say."""
