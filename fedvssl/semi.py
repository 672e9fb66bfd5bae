"""Accuracy of a classifier that learns from few labels, those of samples that no client of the pre-training has.

    python -m fedvssl.semi checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data=cifar10 input=pictures

Settings: conf/semi.yaml. Inputs and outputs: fedvssl/evaluate.py.
"""

import sys
from functools import partial

from fedvssl.early import answered

if __name__ == "__main__" and answered("semi"):  # before PyTorch is imported, which takes seconds
    sys.exit()

from fedvssl import evaluate

main = partial(evaluate.main, "semi")

if __name__ == "__main__":
    sys.exit(main())
