"""Sources of the data sets: for each part of each, the URLs that have it, best first."""

from .download import Source

SOURCES: dict[str, dict[str, tuple[Source, ...]]] = {
    "ucf101": {
        "lists": (
            Source(
                url="https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
                sha256="5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
                size=113_943,
            ),
        ),
        "raw": (
            Source(  # a mirror, as a zip
                url="https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
                sha256="dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
                size=6_960_400_115,
            ),
            Source(
                url="https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",
                sha256="ca8dfadb4c891cb11316f94d52b6b0ac2a11994e67a0cae227180cd160bd8e55",
            ),
        ),
    },
    "hmdb51": {  # a mirror, because the original host is gone
        "lists": (
            Source(
                url="https://huggingface.co/datasets/MichiganNLP/hmdb/resolve/main/test_train_splits.zip",
                sha256="12df0053bd9d570817edb10d2299030f43646969d5d42ff40200249b45ab2efa",
                size=222_848,
            ),
        ),
        "raw": (
            Source(
                url="https://huggingface.co/datasets/MichiganNLP/hmdb/resolve/main/hmdb51_org.zip",
                sha256="2d652f386debd04ae8f83508faacb959c03c9cbf1176fc76848b73cda4d52e57",
                size=4_246_812_958,
            ),
        ),
    },
    "cifar10": {  # the binary versions, which need no unpickling
        "raw": (
            Source(
                url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                size=170_052_171,
            ),
        ),
    },
    "cifar100": {
        "raw": (
            Source(
                url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                md5="03b5dce01913d631647c71ecec9e9cb8",
                size=168_513_733,
            ),
        ),
    },
}
