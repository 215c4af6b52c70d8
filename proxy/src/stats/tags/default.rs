//! The tags that Envoy extracts unless told otherwise.
//!
//! Most are token patterns over the dots of a name: `*` is any token, `**` any number of tokens, `$` the token that is the
//! value. The rest are regular expressions of which the first group is removed and the last is the value. Order matters: it
//! is the order of labels.
//!
//! Deliberately missing: the tags of DynamoDB, whose stats nothing here makes.

use std::ops::Range;
use std::sync::OnceLock;

use super::Found;

#[derive(Debug)]
pub(super) struct Default {
    pub tag: &'static str,
    pattern: Pattern,
    /// The value that does not count as one.
    except: &'static str,
}

#[derive(Debug)]
enum Pattern {
    Tokens(&'static str),
    /// The first token, or empty for any; a string the name must contain; the expression.
    Regex(&'static str, &'static str, &'static str),
}

const fn tokens(tag: &'static str, pattern: &'static str) -> Default {
    Default { tag, pattern: Pattern::Tokens(pattern), except: "" }
}

const fn regex(tag: &'static str, first: &'static str, contains: &'static str, regex: &'static str) -> Default {
    Default { tag, pattern: Pattern::Regex(first, contains, regex), except: "" }
}

impl Default {
    const fn except(self, except: &'static str) -> Self {
        Self { except, ..self }
    }
}

#[rustfmt::skip]
pub(super) static ALL: &[Default] = &[
    regex("envoy.response_code", "", "_rq_", r"_rq(_(\d{3}))$"),
    regex("envoy.response_code_class", "", "_rq_", r"_rq_((\d))xx$"),
    regex("envoy.ssl_cipher", "listener", ".ssl.ciphers.", r"^listener\..*?\.ssl\.ciphers(\.([\w-]+))$"),
    regex("envoy.ssl_curve", "", ".ssl.curves.", r"^(?:listener|cluster)\..*?\.ssl\.curves(\.([\w-]+))$"),
    regex("envoy.ssl_sigalg", "", ".ssl.sigalgs.", r"^(?:listener|cluster)\..*?\.ssl\.sigalgs(\.([\w-]+))$"),
    regex("envoy.ssl_version", "", ".ssl.versions.", r"^(?:listener|cluster)\..*?\.ssl\.versions(\.(TLSv\d\.\d))$"),
    regex("cipher_suite", "cluster", ".ssl.ciphers.", r"^cluster\.[^.]+\.ssl\.ciphers(\.([\w-]+))$"),
    regex("envoy.http_conn_manager_prefix", "listener", ".http.", r"^listener\..*?\.http\.(([^.]+)\.)"),
    regex("envoy.worker_id", "", ".worker_", concat!(
        r"^(?:listener\.(?:(?:\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[[a-fA-F_\d]+\])_\d+|[^.]+)",
        r"|server|listener_manager|thread_local_cluster_manager)\.worker_((\d+)\.)")),
    regex("envoy.listener_address", "listener", "",
        r"^listener\.(((?:\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[[a-fA-F_\d]+\])_\d+|[^.]+)\.)").except("admin"),
    regex("envoy.rds_route_config", "http", ".rds.", r"^http\.[^.]+\.rds\.(([\w\-./]+)\.)\w+?$"),
    regex("envoy.scoped_rds_config", "http", ".scoped_rds.", r"^http\.[^.]+\.scoped_rds\.(([\w\-.]+)\.)\w+?$"),
    regex("envoy.rbac_policy_name", "http", ".policy.",
        r"^http\.[^.]+\.rbac\.(?:[^.]+\.)?policy\.(([^.]+)\.)(?:allowed|shadow_allowed|denied|shadow_denied)$"),
    regex("envoy.rbac_http_prefix", "http", ".rbac.", r"^http\.[^.]+\.rbac\.(([^.]+)\.)").except("policy"),
    regex("envoy.proxy_protocol_prefix", "proxy_proto", "", r"^proxy_proto\.(([^.]+)\.).+$").except("versions"),
    regex("envoy.proxy_protocol_version", "proxy_proto", ".v", r"^proxy_proto\.((?:[^.]+\.)?versions\.v(\d)\.)\w+$"),
    regex("envoy.tls_certificate", "", ".ssl.certificate", r"^(?:listener|cluster)\..*?\.ssl\.certificate\.(([^.]+)\.).*$"),
    regex("envoy.xds_resource_name", "sds", "", r"^sds\.(([^.]+)\.).+"),
    tokens("envoy.mongo_callsite", "mongo.*.collection.*.callsite.$.query.**"),
    tokens("envoy.mongo_collection", "mongo.*.collection.$.**.query.*"),
    tokens("envoy.mongo_cmd", "mongo.*.cmd.$.**"),
    tokens("envoy.grpc_bridge_method", "cluster.*.grpc.*.$.**"),
    tokens("envoy.http_user_agent", "http.*.user_agent.$.**"),
    tokens("envoy.virtual_cluster", "vhost.*.vcluster.$.**"),
    tokens("envoy.fault_downstream_cluster", "http.*.fault.$.**"),
    tokens("envoy.grpc_bridge_service", "cluster.*.grpc.$.**"),
    tokens("envoy.tcp_prefix", "tcp.$.**"),
    tokens("envoy.udp_prefix", "udp.$.**"),
    tokens("envoy.clientssl_prefix", "auth.clientssl.$.**"),
    tokens("envoy.ratelimit_prefix", "ratelimit.$.**"),
    tokens("envoy.cluster_name", "cluster.$.**"),
    tokens("envoy.ext_authz_prefix", "cluster.*.ext_authz.$.**"),
    tokens("envoy.ext_authz_prefix", "http.*.ext_authz.$.**"),
    tokens("envoy.http_conn_manager_prefix", "http.$.**"),
    tokens("envoy.virtual_host", "vhost.$.**"),
    tokens("envoy.mongo_prefix", "mongo.$.**"),
    tokens("envoy.route", "vhost.*.route.$.**"),
    tokens("envoy.thrift_prefix", "thrift.$.**"),
    tokens("envoy.redis_prefix", "redis.$.**"),
    tokens("envoy.local_http_ratelimit_prefix", "$.http_local_rate_limit.**"),
    tokens("envoy.local_network_ratelimit_prefix", "local_rate_limit.$.**"),
    tokens("envoy.local_listener_ratelimit_prefix", "listener_local_ratelimit.$.**"),
    tokens("envoy.dns_filter_prefix", "dns_filter.$.**"),
    tokens("envoy.connection_limit_prefix", "connection_limit.$.**"),
    tokens("envoy.rbac_prefix", "$.rbac.**"),
    tokens("envoy.google_grpc_client_prefix", "grpc.$.**"),
];

impl Default {
    pub fn first_token(&self) -> Option<&'static str> {
        match self.pattern {
            Pattern::Tokens(pattern) => pattern.split('.').next().filter(|first| *first != "$"),
            Pattern::Regex(first, ..) => Some(first).filter(|first| !first.is_empty()),
        }
    }

    /// `compiled` is the cache of the expression, which is compiled when a name first gets this far.
    pub fn find(&self, name: &str, compiled: &OnceLock<Option<regex::bytes::Regex>>) -> Option<Found> {
        let found = match self.pattern {
            Pattern::Tokens(pattern) => find_token(pattern, name, 0, None)?,
            Pattern::Regex(_, contains, regex) => {
                if !name.contains(contains) {
                    return None;
                }
                let build = || regex::bytes::RegexBuilder::new(regex).unicode(false).build().ok();
                let groups = compiled.get_or_init(build).as_ref()?.captures(name.as_bytes())?;
                Found { remove: groups.get(1)?.range(), value: groups.get(2)?.range() }
            }
        };
        (self.except.is_empty() || name.get(found.value.clone()) != Some(self.except)).then_some(found)
    }
}

/// Matches `pattern` against the tokens of `name` from byte `at` on; `value` is what `$` took so far.
fn find_token(pattern: &str, name: &str, at: usize, value: Option<Range<usize>>) -> Option<Found> {
    let (token, rest) = pattern.split_once('.').map_or((pattern, None), |(token, rest)| (token, Some(rest)));
    if token == "**" {
        let Some(rest) = rest else { return value.map(|value| found(name, value)) };
        // Every place where a token begins is a place to go on from; the first that fits is taken.
        let places = std::iter::once(at).chain(name.get(at..)?.match_indices('.').map(|(dot, _)| at + dot + 1));
        return places.into_iter().find_map(|at| find_token(rest, name, at, value.clone()));
    }
    let tail = name.get(at..)?;
    let len = tail.find('.').unwrap_or(tail.len());
    let value = match token {
        "$" => Some(at..at + len),
        "*" => value,
        literal => (tail.get(..len) == Some(literal)).then_some(value)?,
    };
    match (rest, tail.len() > len) {
        (Some(rest), true) => find_token(rest, name, at + len + 1, value),
        (None, false) => value.map(|value| found(name, value)),
        _ => None,
    }
}

/// A token is removed with the dot after it, the last one with the dot before it.
fn found(name: &str, value: Range<usize>) -> Found {
    let remove =
        if value.end < name.len() { value.start..value.end + 1 } else { value.start.saturating_sub(1)..value.end };
    Found { value, remove }
}
