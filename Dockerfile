# A page and a JSON endpoint for one trained network:
#
#   docker build -t normfree .
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -v "$PWD/runs/mine:/run:ro" normfree
#
# The port is published on this machine only. To serve others, put it behind a proxy with a login
# and name the host under which they reach it: … normfree /run --host 0.0.0.0 --allowed-hosts NAME
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgomp1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY normfree normfree
RUN pip install --no-cache-dir --constraint constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu ".[serve]" \
    && useradd --create-home --uid 1000 normfree
WORKDIR /home/normfree
USER normfree
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://localhost:8000/health', timeout=4)"]
STOPSIGNAL SIGINT
ENTRYPOINT ["normfree", "serve"]
CMD ["/run", "--host", "0.0.0.0", "--allowed-hosts", "localhost", "127.0.0.1"]
