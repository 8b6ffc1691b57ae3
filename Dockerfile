# The bridge, attached to your own ComfyUI: docker compose up, with compose.yaml beside this.
# Every package is installed by the hash of its file. `make pin-images` writes the digests of the
# base images here and in compose.yaml: a tag is whatever its registry says today.
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY docs/deploy/build.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement build.lock
COPY docs/deploy/home-assistant-addon/image.lock ./
RUN python -m venv /opt/comfy2mqtt \
    && /opt/comfy2mqtt/bin/pip install --no-cache-dir --no-deps --only-binary :all: \
        --require-hashes --requirement image.lock
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
COPY custom_nodes custom_nodes
COPY mosquitto mosquitto
COPY workflows workflows
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /tmp/wheel . \
    && /opt/comfy2mqtt/bin/pip install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl

FROM ${PYTHON_IMAGE}
# The bridge's alone: a new home would be open to others, and hold a shell's files.
RUN useradd --system --uid 1000 --no-create-home --home-dir /data comfy2mqtt \
    && mkdir --mode 700 /data \
    && chown comfy2mqtt: /data
COPY --from=build /opt/comfy2mqtt /opt/comfy2mqtt
USER comfy2mqtt
WORKDIR /data
ENV PATH=/opt/comfy2mqtt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    COMFY2MQTT_DATA=/data \
    COMFY2MQTT_METRICS_LISTEN=127.0.0.1:9464
VOLUME /data
# Healthy: it runs and counts. Whether broker and ComfyUI are there, its topics tell.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/metrics', timeout=4)"]
# Ctrl-C's signal: it stops in good order.
STOPSIGNAL SIGINT
ENTRYPOINT ["comfy2mqtt"]
CMD ["serve"]
