# The bridge, attached to a ComfyUI of yours: docker compose up, with compose.yaml beside this.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY bridge bridge
COPY custom_nodes custom_nodes
COPY mosquitto mosquitto
COPY workflows workflows
# The versions that the tests ran with; the lock's hashes are for all of it or nothing.
RUN sed -e '/^ *--hash/d' -e 's/ *\\$//' requirements.lock > pins.txt \
    && python -m venv /opt/comfy2mqtt \
    && /opt/comfy2mqtt/bin/pip install --no-cache-dir --constraint pins.txt '.[postgresql]'

FROM python:3.12-slim
RUN useradd --system --uid 1000 --create-home --home-dir /data comfy2mqtt
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
