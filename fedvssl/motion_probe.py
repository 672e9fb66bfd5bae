"""Direction of motion told from the frozen features of a backbone, without labels; chance is 12.5 percent.

    python -m fedvssl.motion_probe checkpoint=outputs/<DATE>/<TIME>/<exp_name>/round-20-weights.npz data_dir=data

Settings: conf/motion_probe.yaml. Inputs and outputs: fedvssl/evaluate.py.
"""

import sys
from functools import partial

from fedvssl.early import answered

if __name__ == "__main__" and answered("motion_probe"):  # before PyTorch is imported, which takes seconds
    sys.exit()

from fedvssl import evaluate

main = partial(evaluate.main, "motion_probe")

if __name__ == "__main__":
    sys.exit(main())
