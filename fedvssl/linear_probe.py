"""Accuracy of a linear classifier on the frozen features of a backbone: top-1, top-5, mean class.

    python -m fedvssl.linear_probe checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data

Settings: conf/linear_probe.yaml. Inputs and outputs: fedvssl/evaluate.py.
"""

import sys
from functools import partial

from fedvssl.early import answered

if __name__ == "__main__" and answered("linear_probe"):  # before PyTorch is imported, which takes seconds
    sys.exit()

from fedvssl import evaluate

main = partial(evaluate.main, "linear_probe")

if __name__ == "__main__":
    sys.exit(main())
