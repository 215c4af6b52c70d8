# Two stages: the first builds, the second holds the binary and what it links to.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p outrigger && strip target/release/outrigger

FROM gcr.io/distroless/cc-debian12
COPY --from=build /src/target/release/outrigger /usr/local/bin/outrigger
# pilot-agent starts the proxy under this name.
COPY --from=build /src/target/release/outrigger /usr/local/bin/envoy
# The user that Istio's traffic redirection leaves alone.
USER 1337:1337
ENTRYPOINT ["/usr/local/bin/outrigger"]
CMD ["-c", "/etc/outrigger/outrigger.yaml"]
