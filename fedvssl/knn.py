"""Accuracy of classifying a test video by its nearest training videos, for several numbers of neighbours.

    python -m fedvssl.knn checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data

Settings: conf/knn.yaml. Inputs and outputs: fedvssl/evaluate.py.
"""

import sys
from functools import partial

from fedvssl.early import answered

if __name__ == "__main__" and answered("knn"):  # before PyTorch is imported, which takes seconds
    sys.exit()

from fedvssl import evaluate

main = partial(evaluate.main, "knn")

if __name__ == "__main__":
    sys.exit(main())
