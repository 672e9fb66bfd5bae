"""Share of test videos whose class is among their nearest training videos: R@1, R@5, R@10, R@20, R@50.

    python -m fedvssl.retrieval checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data

Settings: conf/retrieval.yaml. Inputs and outputs: fedvssl/evaluate.py.
"""

import sys
from functools import partial

from fedvssl.early import answered

if __name__ == "__main__" and answered("retrieval"):  # before PyTorch is imported, which takes seconds
    sys.exit()

from fedvssl import evaluate

main = partial(evaluate.main, "retrieval")

if __name__ == "__main__":
    sys.exit(main())
