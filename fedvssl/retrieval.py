"""How often the nearest training videos of a test video show its class: R@1, R@5, R@10, R@20, R@50.

    python -m fedvssl.retrieval checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data

Settings: conf/retrieval.yaml. What it reads and writes: fedvssl/evaluate.py.
"""

import sys

from fedvssl.evaluate import main

if __name__ == "__main__":
    sys.exit(main("retrieval"))
