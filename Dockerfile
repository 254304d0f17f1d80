# An image with the command `stg`.
#
#   docker build -t stg_jax .                                   # for a CPU
#   docker build -t stg_jax:cuda --build-arg JAX=cuda13 .       # for NVIDIA GPUs
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" stg_jax caption --workdir runs/own my.mp4
#   docker run --rm --gpus all -v "$PWD:/data" -p 8000:8000 stg_jax:cuda serve runs/own --host 0.0.0.0

FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
 && grep -v '^-e' requirements.txt >/dist/requirements.txt

FROM python:3.12-slim
# The extra of JAX with the libraries of an accelerator: cuda13, cuda12, or nothing for a CPU. The
# wheels bring CUDA; the host only needs the driver and the NVIDIA Container Toolkit.
ARG JAX=
ARG EXTRAS=extract,plot,hub,serve
COPY --from=build /dist /dist
# The tested versions, as in requirements.txt.
RUN pip install --no-cache-dir --requirement /dist/requirements.txt \
    "$(ls /dist/*.whl)[$EXTRAS]" "jax${JAX:+[$JAX]}" \
 && rm -r /dist
# Compiled programs and downloaded models go into the mounted folder, where the next start finds
# them, whichever user the container runs as.
ENV HOME=/data/.stg_jax JAX_COMPILATION_CACHE_DIR=/data/.stg_jax/programs KERAS_BACKEND=jax
WORKDIR /data
RUN useradd --no-create-home stg && chown stg /data
USER stg
EXPOSE 8000
ENTRYPOINT ["stg"]
CMD ["--help"]
