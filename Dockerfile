# The gateway as an image: built with the Rust image, run on slim Debian by a user who is not root.
# Servers that run as child processes need their own programs (uvx, npx, …): build on top of this image
# and add them.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin trunkline

FROM debian:bookworm-slim
# The authorities are for HTTPS and TLS to servers outside.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1001 trunkline \
    && useradd --uid 1001 --gid 1001 --home-dir /data --no-create-home --shell /usr/sbin/nologin trunkline \
    && install -d -o 1001 -g 1001 -m 0700 /data
COPY --from=build /build/target/release/trunkline /usr/local/bin/trunkline

# Reached from outside the container, so nobody is trusted for where he comes from: the first boot
# makes an operator's key in /data/operator.key.
ENV HOST=0.0.0.0 \
    PORT=8100 \
    METRICS_PORT=9090 \
    DATA_DIR=/data \
    LOG_FORMAT=json
EXPOSE 8100 9090
VOLUME /data
WORKDIR /data
USER 1001:1001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["trunkline", "health-check"]
ENTRYPOINT ["trunkline"]
