"""Skip ratios against a bare forward pass.

python benchmarks/skip_ratio.py [rounds]: all additions of vit_b32@random and bit_r50x1@random. The project asks for at
most 1.15. Takes turns, the best of each counts.
"""

import sys

from attention import over_forward

from tf_vitcnn.analyses.skip_ratio.analysis import SkipRatio

if __name__ == "__main__":
    for spec in ("vit_b32@random", "bit_r50x1@random"):
        over_forward(spec, SkipRatio(), int(sys.argv[1]) if len(sys.argv) > 1 else 5)
