# The image of Serinus: one static-enough binary on a small Debian, as a user without rights.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY crates crates
COPY src src
COPY schemas schemas
COPY examples examples
COPY tests tests
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin serinus && cp target/release/serinus /serinus

FROM debian:bookworm-slim
RUN useradd --system --create-home --uid 10001 serinus
USER serinus
WORKDIR /home/serinus
COPY --from=build /serinus /usr/local/bin/serinus
STOPSIGNAL SIGTERM
ENTRYPOINT ["serinus"]
CMD ["--help"]
