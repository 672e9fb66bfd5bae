"""Where HMDB-51 and its split lists are: a mirror, because the original host is gone."""

from ..download import Source

VIDEOS = (
    Source(
        url="https://huggingface.co/datasets/MichiganNLP/hmdb/resolve/main/hmdb51_org.zip",
        sha256="2d652f386debd04ae8f83508faacb959c03c9cbf1176fc76848b73cda4d52e57",
        size=4_246_812_958,
    ),
)
LISTS = (
    Source(
        url="https://huggingface.co/datasets/MichiganNLP/hmdb/resolve/main/test_train_splits.zip",
        sha256="12df0053bd9d570817edb10d2299030f43646969d5d42ff40200249b45ab2efa",
        size=222_848,
    ),
)
