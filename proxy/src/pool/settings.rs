//! A cluster's options as its codecs take them. The cluster's builder has checked them; what is not understood here does
//! not get that far.

use crate::cluster::Cluster;
use crate::config::Path;
use crate::http::http1::{self, HeadLimits, HeaderKeyFormat};
use crate::http::http2;
use crate::http::http2::flood::Side;
use crate::network::http_connection_manager::header_key_format;
use crate::stats::{StatBlock, StatTable};

pub fn http1(cluster: &Cluster) -> http1::ClientSettings {
    let options = &cluster.http;
    let defaults = http1::ClientSettings::default();
    http1::ClientSettings {
        limits: HeadLimits {
            max_bytes: options.max_response_headers_kb.map_or(defaults.limits.max_bytes, |kb| kb as usize * 1024),
            max_headers: options.max_headers_count.map_or(defaults.limits.max_headers, |n| n as usize),
        },
        enable_trailers: options.http1.enable_trailers,
        header_key_format: header_key_format(&options.http1, &Path::root("")).unwrap_or(HeaderKeyFormat::LowerCase),
        allow_chunked_length: options.http1.allow_chunked_length,
        buffer_limit: cluster.per_connection_buffer_limit_bytes as usize,
        stats: Some(codec_stats(cluster, "http1")),
    }
}

pub fn http2(cluster: &Cluster) -> http2::ClientSettings {
    let built = http2::Http2Options::build(Some(&cluster.http.http2), Side::Client, &Path::root(""));
    let options = built.or_else(|_| http2::Http2Options::build(None, Side::Client, &Path::root("")));
    let options = options.unwrap_or_else(|_| unreachable!("the defaults are in range"));
    let mut settings = http2::ClientSettings::new(options, codec_stats(cluster, "http2"));
    if let Some(kb) = cluster.http.max_response_headers_kb {
        settings.max_response_headers_kb = kb;
    }
    if let Some(count) = cluster.http.max_headers_count {
        settings.max_headers_count = count;
    }
    settings
}

/// Scope `cluster.<name>.<codec>`.
fn codec_stats<T: StatTable>(cluster: &Cluster, codec: &str) -> StatBlock<T> {
    cluster.stats.registry().block_verbatim(&format!("{}{codec}", cluster.stats.prefix()))
}
