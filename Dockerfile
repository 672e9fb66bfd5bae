# The command `fedvssl` and the scripts in an image: environment as scripts/setup_environment.sh makes it, several GB.
#   docker build -t fedvssl .
#   docker run --rm --init --gpus all --shm-size 4g -v "$PWD/data:/fedvssl/data" -v "$PWD/outputs:/fedvssl/outputs" fedvssl train
# Without a GPU leave `--gpus all` out. `--entrypoint bash` gives the scripts: quickstart.sh, prepare_ucf101.sh ...
FROM python:3.11-slim-bookworm AS system
# libgl1 and libglib2.0-0 are for OpenCV, procps has the pkill of quickstart.sh, git is for work in the devcontainer.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git libgl1 libglib2.0-0 procps \
    && rm -rf /var/lib/apt/lists/*

FROM system
WORKDIR /fedvssl
COPY . .
RUN PIP_NO_CACHE_DIR=1 bash -eu -c 'source scripts/setup_environment.sh ""'
ENV PATH="/fedvssl/.venv/bin:$PATH"
ENTRYPOINT ["fedvssl"]
CMD ["--help"]
