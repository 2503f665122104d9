# syntax=docker/dockerfile:1

# The two programs, api and projector, in one image: `docker build -t rookery .`

FROM rust:1.95-slim-trixie AS build
# For jemalloc.
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches keep the dependencies' sources and what was compiled of them from one build to the next. The programs
# are copied out because a cache is no part of the image.
#
# RUSTUP_TOOLCHAIN is the image's own compiler: rust-toolchain.toml would have rustup download another. SQLX_OFFLINE
# has the statements checked against the committed .sqlx, since there is no database here.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    RUSTUP_TOOLCHAIN="$RUST_VERSION" SQLX_OFFLINE=true \
    cargo build --release --locked -p api -p projector \
    && install -D -t /out target/release/api target/release/projector

FROM debian:trixie-slim
# For amqps:// and sslmode=require the programs trust the certificate authorities that Debian trusts.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# The health check. It is bash, so that no HTTP client has to be in the image for it.
COPY --chmod=755 <<'SCRIPT' /usr/local/bin/http-ok
#!/usr/bin/env bash
# http-ok PORT PATH: whether GET http://127.0.0.1:PORT/PATH answers 200.
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
read -r _ status _ <&3
[ "$status" = 200 ]
SCRIPT
COPY --from=build /out/ /usr/local/bin/
# A number, so that Kubernetes can see that it is not root's. The programs write no files.
USER 65532:65532
EXPOSE 8003
CMD ["api"]
