# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# For scripts/build, which optimizes the program by its behavior under load.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends postgresql wrk \
    && rm -rf /var/lib/apt/lists/* \
    && rustup component add llvm-tools
WORKDIR /build
COPY . .
# Cache mounts keep the compiled dependencies. Unlike a build with stub sources, they need no second
# list of the project's files. Cargo compares modification times, which mean nothing in a cache that
# several checkouts share. So touch the crate roots, which rebuilds the project's own crates.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    touch src/lib.rs src/main.rs crates/*/src/lib.rs \
    && scripts/build \
    && cp target/shipped/liveperson-bridge /liveperson-bridge \
    && mkdir /data

# The service `demo` of docker-compose.yml: not optimized, so that it is built in some minutes.
FROM rust:1.95-slim-bookworm AS build-demo
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    touch src/lib.rs src/main.rs crates/*/src/lib.rs \
    && cargo build --locked \
    && cp target/debug/liveperson-bridge /liveperson-bridge

FROM gcr.io/distroless/cc-debian12:nonroot AS demo
COPY --from=build-demo /liveperson-bridge /usr/local/bin/liveperson-bridge
ENTRYPOINT ["/usr/local/bin/liveperson-bridge"]

# Contains the C library, the CA bundle, an unprivileged user, and no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="liveperson-bridge" \
      org.opencontainers.image.description="Connects any messaging channel to LivePerson's Conversational Cloud" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /build/LICENSE /usr/share/doc/liveperson-bridge/LICENSE
COPY --from=build /liveperson-bridge /usr/local/bin/liveperson-bridge
# Only the embedded database writes files: `data_dir = "data"`, the default, is /data here.
COPY --from=build --chown=nonroot:nonroot /data /data
WORKDIR /

# 8080: the API and the Cloud's webhooks. 9090: probes and metrics, not for the load balancer.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# One JSON object per line, for collectors of container logs.
ENV LOG_FORMAT=json
# No HEALTHCHECK: it would need an HTTP client in the image. Probe GET /livez and /readyz on port
# 9090.
ENTRYPOINT ["/usr/local/bin/liveperson-bridge"]
CMD ["serve", "--config", "/etc/liveperson-bridge/bridge.toml"]
