//! Where we differ from Envoy on purpose. The reasons are rows of `docs/differences.md`, by `id`.

use crate::observe::{Differing, is_meant};

/// One difference, as the cases show it.
pub struct Difference {
    /// The row of `docs/differences.md`.
    pub id: &'static str,
    pub group: &'static str,
    /// Which cases show it; `*` at either end.
    pub cases: &'static [&'static str],
    /// In which fields; `*` at either end.
    pub fields: &'static [&'static str],
}

impl Difference {
    pub fn covers(&self, found: &Differing) -> bool {
        self.cases.iter().any(|case| is_meant(case, &found.case))
            && self.fields.iter().any(|field| is_meant(field, &found.field))
    }
}

pub static ON_PURPOSE: &[Difference] = &[
    Difference { id: "no-heap-dump", group: "admin", cases: &["GET /heap_dump"], fields: &["0.status"] },
    Difference {
        id: "one-nosniff",
        group: "admin",
        cases: &["GET /config_dump?resource=nothing"],
        fields: &["0.header.x-content-type-options"],
    },
    Difference { id: "state-at-once", group: "admin", cases: &["GET state while failing"], fields: &["0.body"] },
    Difference {
        id: "used-when-changed",
        group: "admin",
        cases: &["GET /stats?usedonly&type=Gauges&filter=^cluster.up.membership"],
        fields: &["0.body"],
    },
    Difference { id: "network-rbac-at-once", group: "rbac", cases: &["connection denied"], fields: &["raw.0"] },
    Difference { id: "tunnel-half-close", group: "upgrades", cases: &["connect"], fields: &["raw.2"] },
    Difference { id: "tunnel-half-close", group: "upgrades", cases: &["log access.log"], fields: &["line 028"] },
    Difference {
        id: "connect-length",
        group: "upgrades",
        cases: &["connect forwarded to http1"],
        fields: &["0.header.content-length"],
    },
    Difference { id: "upgrade-spelling", group: "upgrades", cases: &["websocket*"], fields: &["0.header.connection"] },
    Difference { id: "response-nominated-fields", group: "http1", cases: &["answer-hop"], fields: &["0.header.x-hop"] },
    Difference {
        id: "response-nominated-fields",
        group: "http2",
        cases: &["h2 to h1 hop"],
        fields: &["0.header.x-hop"],
    },
    Difference { id: "bare-cr", group: "bad_upstreams", cases: &["cr-in-value"], fields: &["*"] },
    Difference { id: "bare-cr", group: "bad_upstreams", cases: &["log access.log"], fields: &["line 011"] },
    Difference { id: "http2-431", group: "http2", cases: &["120 headers", "header of 70k"], fields: &["*"] },
    Difference { id: "http2-431", group: "http2", cases: &["log access.log"], fields: &["line 058", "line 059"] },
    Difference {
        id: "bare-cr",
        group: "bad_upstreams",
        cases: &["stats"],
        fields: &[
            "cluster.up.upstream_rq_200",
            "cluster.up.upstream_rq_2xx",
            "cluster.up.upstream_rq_502",
            "cluster.up.upstream_rq_5xx",
            "cluster.up.external.upstream_rq_200",
            "cluster.up.external.upstream_rq_2xx",
            "cluster.up.external.upstream_rq_502",
            "cluster.up.external.upstream_rq_5xx",
            "http.ingress.downstream_rq_2xx",
            "http.ingress.downstream_rq_5xx",
        ],
    },
    Difference {
        id: "http2-431",
        group: "http2",
        cases: &["stats"],
        fields: &[
            "http.ingress.downstream_rq_4xx",
            "http.ingress.downstream_rq_completed",
            "http.ingress.downstream_rq_http1_total",
            "http.ingress.downstream_rq_http2_total",
        ],
    },
    Difference {
        id: "http-version",
        group: "strict",
        cases: &["http09", "version-*", "default-delayed-close"],
        fields: &["*"],
    },
    Difference {
        id: "strict-request-line",
        group: "strict",
        cases: &["two-spaces", "tab-for-space", "space-after-version", "lf-only"],
        fields: &["*"],
    },
    Difference { id: "strict-host", group: "strict", cases: &["userinfo", "host-*"], fields: &["*"] },
    Difference {
        id: "strict-fields",
        group: "strict",
        cases: &["folded", "cr-in-value", "lf-in-value"],
        fields: &["*"],
    },
    Difference {
        id: "nominated-framing",
        group: "strict",
        cases: &["connection-content-length", "connection-close-host"],
        fields: &["*"],
    },
    Difference { id: "canonical-length", group: "strict", cases: &["length-zeros"], fields: &["*"] },
    Difference { id: "unknown-coding", group: "strict", cases: &["encoding-*"], fields: &["*"] },
    Difference { id: "strict-chunks", group: "strict", cases: &["chunk-*"], fields: &["*"] },
    Difference { id: "strict-authority", group: "strict", cases: &["rewritten-host"], fields: &["*"] },
    // The sum of the rules above.
    Difference { id: "strict-request-line", group: "strict", cases: &["log access.log", "stats"], fields: &["*"] },
    Difference { id: "tls12-alerts", group: "tls", cases: &["*tls12"], fields: &["tls"] },
];
