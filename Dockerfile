# docker build -t ganpipe .
#
# torch's own packages bring the CUDA libraries: this base serves CPUs and, under NVIDIA's container toolkit, GPUs.
# A base with all of CUDA: docker build -t ganpipe --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 .
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
# A CUDA base has no Python. Debian and Ubuntu keep no old versions to pin.
# hadolint ignore=DL3008
RUN command -v python3 || (apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/ganpipe
WORKDIR /src
# The packages are a layer of their own, which a change of the code leaves as it is.
COPY requirements-image.lock ./
RUN /opt/ganpipe/bin/pip install --no-cache-dir --no-deps --requirement requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY ganpipe ganpipe
COPY flows flows
RUN /opt/ganpipe/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE}
# git: the commit of a run. tini: a first process that passes signals on and reaps, so that a training gets SIGTERM.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git tini \
    && (command -v python3 || apt-get install --yes --no-install-recommends python3) \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home ganpipe \
    && install --directory --owner ganpipe --group ganpipe /workspace
COPY --from=build /opt/ganpipe /opt/ganpipe
ENV PATH=/opt/ganpipe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1
USER ganpipe
WORKDIR /workspace
VOLUME /workspace
# No program but tini: a worker of Prefect puts its own command in the place of this one.
ENTRYPOINT ["tini", "--"]
CMD ["ganpipe", "--help"]
