# tuner with its commands, for docker-compose.yml and for any cluster that runs containers.
# Based on slim Debian. PyTorch includes CUDA 13, so the host needs only the NVIDIA driver, of
# version 580 or later, and its container toolkit.
# Layers are ordered from rarely to often changed: system, PyTorch and other pinned packages, tuner.
FROM python:3.11-slim-bookworm

# tini forwards signals to tuner and reaps zombie processes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --uid 1000 --create-home tuner \
    && mkdir /runs /work \
    && chown tuner:tuner /runs /work

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    TUNER_DATA=/runs/data \
    XDG_CACHE_HOME=/runs/.cache

COPY requirements.txt /build/
RUN pip install -r /build/requirements.txt

COPY pyproject.toml README.md LICENSE /build/
COPY search_spaces /build/search_spaces
COPY studies /build/studies
COPY tuner /build/tuner
RUN pip install --no-build-isolation --no-deps /build

COPY docs/cluster/one-gpu.sh /usr/local/bin/one-gpu

# numeric: Kubernetes cannot verify that a user name is not root
USER 1000:1000
WORKDIR /work
VOLUME /runs
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--"]
CMD ["tuner", "--help"]
