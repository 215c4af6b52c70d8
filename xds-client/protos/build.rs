//! Makes Rust types of the part of Envoy's API that this project reads.
//!
//! The API comes as a `FileDescriptorSet` inside the `envoy-types` package, which is pinned in `Cargo.lock` but never
//! compiled: its library holds every Envoy message and would cost more than the rest of the build. `cargo metadata`
//! says where the package lies; `ENVOY_TYPES_DIR` overrides that for builds where cargo cannot be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost::Message;
use prost_types::FileDescriptorSet;

#[path = "build/descriptor.rs"]
mod descriptor;
#[path = "build/rules.rs"]
mod rules;
#[path = "build/schema.rs"]
mod schema;
#[path = "build/wire.rs"]
mod wire;

/// Files whose closure of imports is the API we know. One line a file, so that a diff shows what was added.
const ROOTS: &[&str] = &[
    "envoy/admin/v3/certs.proto",
    "envoy/admin/v3/clusters.proto",
    "envoy/admin/v3/config_dump.proto",
    "envoy/admin/v3/init_dump.proto",
    "envoy/admin/v3/listeners.proto",
    "envoy/admin/v3/memory.proto",
    "envoy/admin/v3/server_info.proto",
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/filters/cel/v3/cel.proto",
    "envoy/extensions/access_loggers/grpc/v3/als.proto",
    "envoy/extensions/access_loggers/open_telemetry/v3/logs_service.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/bootstrap/internal_listener/v3/internal_listener.proto",
    "envoy/extensions/clusters/aggregate/v3/cluster.proto",
    "envoy/extensions/clusters/dns/v3/dns_cluster.proto",
    "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto",
    "envoy/extensions/compression/brotli/compressor/v3/brotli.proto",
    "envoy/extensions/compression/brotli/decompressor/v3/brotli.proto",
    "envoy/extensions/compression/gzip/compressor/v3/gzip.proto",
    "envoy/extensions/compression/gzip/decompressor/v3/gzip.proto",
    "envoy/extensions/compression/zstd/compressor/v3/zstd.proto",
    "envoy/extensions/compression/zstd/decompressor/v3/zstd.proto",
    "envoy/extensions/filters/http/basic_auth/v3/basic_auth.proto",
    "envoy/extensions/filters/http/buffer/v3/buffer.proto",
    "envoy/extensions/filters/http/compressor/v3/compressor.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/csrf/v3/csrf.proto",
    "envoy/extensions/filters/http/custom_response/v3/custom_response.proto",
    "envoy/extensions/filters/http/decompressor/v3/decompressor.proto",
    "envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.proto",
    "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_http1_bridge/v3/config.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/grpc_web/v3/grpc_web.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/header_to_metadata/v3/header_to_metadata.proto",
    "envoy/extensions/filters/http/health_check/v3/health_check.proto",
    "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/ratelimit/v3/rate_limit.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/http/stateful_session/v3/stateful_session.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/local_ratelimit/v3/local_ratelimit.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/original_src/v3/original_src.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/connection_limit/v3/connection_limit.proto",
    "envoy/extensions/filters/network/direct_response/v3/config.proto",
    "envoy/extensions/filters/network/echo/v3/echo.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/network/rbac/v3/rbac.proto",
    "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/formatter/metadata/v3/metadata.proto",
    "envoy/extensions/formatter/req_without_query/v3/req_without_query.proto",
    "envoy/extensions/health_check/event_sinks/file/v3/file.proto",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case.proto",
    "envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header.proto",
    "envoy/extensions/http/original_ip_detection/xff/v3/xff.proto",
    "envoy/extensions/http/stateful_session/cookie/v3/cookie.proto",
    "envoy/extensions/http/stateful_session/header/v3/header.proto",
    "envoy/extensions/internal_redirect/allow_listed_routes/v3/allow_listed_routes_config.proto",
    "envoy/extensions/internal_redirect/previous_routes/v3/previous_routes_config.proto",
    "envoy/extensions/internal_redirect/safe_cross_scheme/v3/safe_cross_scheme_config.proto",
    "envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.proto",
    "envoy/extensions/load_balancing_policies/cluster_provided/v3/cluster_provided.proto",
    "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
    "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
    "envoy/extensions/load_balancing_policies/override_host/v3/override_host.proto",
    "envoy/extensions/load_balancing_policies/random/v3/random.proto",
    "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
    "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
    "envoy/extensions/load_balancing_policies/subset/v3/subset.proto",
    "envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.proto",
    "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    "envoy/extensions/network/dns_resolver/getaddrinfo/v3/getaddrinfo_dns_resolver.proto",
    "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
    "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
    "envoy/extensions/request_id/uuid/v3/uuid.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.proto",
    "envoy/extensions/resource_monitors/injected_resource/v3/injected_resource.proto",
    "envoy/extensions/retry/host/omit_canary_hosts/v3/omit_canary_hosts.proto",
    "envoy/extensions/retry/host/omit_host_metadata/v3/omit_host_metadata_config.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    "envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream.proto",
    "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/service/ratelimit/v3/rls.proto",
    "google/protobuf/wrappers.proto",
];

/// Option-only files: the set needs them to be complete, but nothing in them becomes a Rust type.
fn is_option_only(name: &str) -> bool {
    name.starts_with("validate/")
        || name.starts_with("udpa/annotations/")
        || name.starts_with("xds/annotations/")
        || name.starts_with("envoy/annotations/")
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=src/rules/op.rs");
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-env-changed=ENVOY_TYPES_DIR");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));

    let published = fs::read(envoy_types_dir().join("src/generated/types.bin"))
        .expect("envoy-types publishes src/generated/types.bin; is the pinned version another one?");
    let mut set = prune(&published, ROOTS);
    set.extend_from_slice(&own_files());
    schema::write(&set, |file| !is_option_only(file) && file != "google/protobuf/descriptor.proto", &out);

    let mut fds = FileDescriptorSet::decode(set.as_slice()).expect("the pruned set decodes");
    fds.file.retain(|f| !is_option_only(f.name()));
    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .btree_map(["."])
        .skip_debug(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .include_file("api.rs")
        .out_dir(&out);
    config.compile_fds(fds).expect("prost generates the API");
}

/// The folder of the `envoy-types` package in cargo's registry.
fn envoy_types_dir() -> PathBuf {
    if let Some(dir) = env::var_os("ENVOY_TYPES_DIR") {
        return dir.into();
    }
    let manifest = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("Cargo.toml");
    // `cargo build` does not download what it does not compile: ask without the network first, then with it.
    for offline in [true, false] {
        let mut metadata = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
        metadata.args(["metadata", "--format-version=1", "--locked", "--manifest-path"]).arg(&manifest);
        if offline {
            metadata.arg("--offline");
        }
        let Ok(output) = metadata.output() else { continue };
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { continue };
        let package = json["packages"].as_array().into_iter().flatten().find(|p| p["name"] == "envoy-types");
        if let Some(manifest) = package.and_then(|p| p["manifest_path"].as_str()) {
            let dir = Path::new(manifest).parent().expect("a manifest lies in a folder").to_path_buf();
            if dir.join("src/generated/types.bin").exists() {
                return dir;
            }
        }
    }
    panic!("cannot find the envoy-types package: run `cargo fetch --locked`, or set ENVOY_TYPES_DIR to its folder");
}

/// A well-known type that Envoy's binary has but no file of the API imports.
const FIELD_MASK: &str = "google/protobuf/field_mask.proto";

/// Our own small .proto files, as a serialized FileDescriptorSet without the well-known types that the other set has.
fn own_files() -> Vec<u8> {
    let files = ["udpa/type/v1/typed_struct.proto", "xds/type/v3/typed_struct.proto", FIELD_MASK];
    let mut set = protox::compile(files, ["proto"]).expect("own .proto files compile");
    set.file.retain(|f| !f.name().starts_with("google/protobuf/") || f.name() == FIELD_MASK);
    set.encode_to_vec()
}

/// Keeps the closure of `roots` and drops source comments. Works on the wire format: see `wire`.
fn prune(set: &[u8], roots: &[&str]) -> Vec<u8> {
    let mut files: BTreeMap<String, (Vec<u8>, Vec<String>)> = BTreeMap::new();
    for (field, file, _) in wire::fields(set) {
        assert_eq!(field, 1, "a FileDescriptorSet has one field");
        let (mut name, mut deps, mut kept) = (String::new(), Vec::new(), Vec::new());
        for (number, value, whole) in wire::fields(file.bytes()) {
            match number {
                1 => name = value.text().into(),
                3 => deps.push(value.text().into()),
                9 => continue, // source_code_info
                _ => {}
            }
            kept.extend_from_slice(whole);
        }
        files.insert(name, (kept, deps));
    }
    let (mut wanted, mut queue) = (BTreeSet::new(), roots.iter().map(|r| r.to_string()).collect::<Vec<_>>());
    while let Some(name) = queue.pop() {
        let (_, deps) = files.get(&name).unwrap_or_else(|| panic!("envoy-types does not contain {name}"));
        if wanted.insert(name) {
            queue.extend(deps.iter().cloned());
        }
    }
    let mut out = Vec::new();
    for name in &wanted {
        let bytes = &files[name].0;
        out.push(0x0a);
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
    }
    out
}
