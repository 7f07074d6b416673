# Two images from one wheel: `docker build --target prep .` prepares data, `docker build --target train .` trains.
FROM python:3.13-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md ./
COPY mfcd_core mfcd_core
COPY preprocess preprocess
COPY train train
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim AS base
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/tmp/numba
COPY constraints.txt /constraints.txt
COPY --from=wheel /wheels /wheels
RUN useradd --create-home mfcd

FROM base AS prep
RUN pip install --constraint /constraints.txt "$(ls /wheels/*.whl)[prep]"
USER mfcd
WORKDIR /data
ENTRYPOINT ["mfcd-prep"]

FROM base AS train
RUN pip install --constraint /constraints.txt "$(ls /wheels/*.whl)[train]"
USER mfcd
WORKDIR /data
ENTRYPOINT ["mfcd-train"]
