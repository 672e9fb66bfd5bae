"""How often the classes of the nearest training videos name that of a test video, for several numbers of neighbours.

    python -m fedvssl.knn checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data

Settings: conf/knn.yaml. What it reads and writes: fedvssl/evaluate.py.
"""

import sys

from fedvssl.evaluate import main

if __name__ == "__main__":
    sys.exit(main("knn"))
