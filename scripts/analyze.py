"""`tf-vitcnn analyze` from a clone, without installation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tf_vitcnn.commands.program import script

if __name__ == "__main__":
    script("analyze")
