"""Where UCF-101 and its split lists are: a ZIP mirror of the videos, the original RAR, the lists."""

from ..download import Source

VIDEOS = (
    Source(
        url="https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
        sha256="dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
        size=6_960_400_115,
    ),
    Source(
        url="https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",
        sha256="ca8dfadb4c891cb11316f94d52b6b0ac2a11994e67a0cae227180cd160bd8e55",
    ),
)
LISTS = (
    Source(
        url="https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
        sha256="5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
        size=113_943,
    ),
)
