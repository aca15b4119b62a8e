# Serves a bundle over HTTP on a CPU, without torch. See docs/serving.md.
#
#   docker build -t headstart-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 -e HEADSTART_API_KEY=… -v $PWD/RUN/bundle:/bundle:ro headstart-serve
#
# headstart itself depends on torch, so its dependencies are named here: what `serve` imports.
FROM python:3.11-slim

COPY constraints.txt pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir --constraint /source/constraints.txt \
        numpy scipy pillow pydantic typer rich onnxruntime safetensors jinja2 psutil threadpoolctl \
        fastapi uvicorn python-multipart prometheus-client \
    && pip install --no-cache-dir --no-deps /source \
    && rm -rf /source

USER 10001
ENV HEADSTART_CACHE=/tmp/headstart
EXPOSE 8000
ENTRYPOINT ["headstart", "serve", "/bundle", "--host", "0.0.0.0"]
