# Fanfare in an image: `docker build --tag fanfare .`
#
# It runs as a user without rights, on a root file system that may be read-only; all that it keeps is in /data.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends cmake libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo xtask dist

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libssl3 \
 && rm -rf /var/lib/apt/lists/*
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=build /src/target/dist/fanfare /usr/local/bin/fanfare
USER 10001:10001
ENV FANFARE_DATA_DIR=/data FANFARE_LISTEN=0.0.0.0:8071
VOLUME /data
EXPOSE 8071
HEALTHCHECK --interval=5s --timeout=3s --start-period=2m CMD ["fanfare", "health"]
ENTRYPOINT ["fanfare"]
CMD ["serve"]
