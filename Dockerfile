# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# Features of the program that are not in by default, such as otlp.
ARG FEATURES=
# The program is built by what it does under load, for which scripts/build needs these.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends postgresql wrk \
    && rm -rf /var/lib/apt/lists/* \
    && rustup component add llvm-tools
WORKDIR /build
COPY . .
# Dependencies are kept in cache mounts: unlike a build with stub sources, that
# names no file of the project twice. Cargo compares times, which a cache that
# several checkouts share makes meaningless; touching the roots rebuilds our crates.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    touch src/lib.rs src/main.rs crates/*/src/lib.rs \
    && scripts/build "${FEATURES}" \
    && cp target/shipped/liveperson-bridge /liveperson-bridge \
    && mkdir /data

# Holds the C library, the CA bundle, a user without rights, and no shell.
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
# Only the embedded database writes: `data_dir = "data"`, the default, is /data here.
COPY --from=build --chown=nonroot:nonroot /data /data
WORKDIR /

# 8080: the facade and the Cloud's webhooks. 9090: probes and metrics, not for the load balancer.
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# One JSON object a line, for whatever collects the logs of containers.
ENV LOG_FORMAT=json
# No HEALTHCHECK: it would need a client in the image. Probe GET /livez and /readyz on port 9090.
ENTRYPOINT ["/usr/local/bin/liveperson-bridge"]
CMD ["serve", "--config", "/etc/liveperson-bridge/bridge.toml"]
