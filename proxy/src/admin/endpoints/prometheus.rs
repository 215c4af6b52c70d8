//! `/stats/prometheus`: every stat in Prometheus's text format.

use super::stats::{self, BucketMode};
use crate::admin::reply::TEXT;
use crate::admin::{Endpoint, Param, ParamKind, Reply, Request};
use crate::stats::render::{Buckets, Kinds};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/stats/prometheus",
    mutates: false,
    help: "statistics in Prometheus's format",
    params: &[
        stats::USED_ONLY,
        Param { id: "text_readouts", kind: ParamKind::Flag, help: "with text readouts, as gauges of value 0" },
        stats::FILTER,
        stats::INVERT_FILTER,
        Param {
            id: "histogram_buckets",
            kind: ParamKind::OneOf(&["cumulative", "summary"]),
            help: "how to show histograms",
        },
    ],
    respond,
};

pub fn respond(request: &Request<'_>) -> Reply {
    let (mut query, mode) = match stats::parse(&request.query) {
        Ok(parsed) => parsed,
        Err(why) => return Reply::bad_request(why),
    };
    match mode {
        BucketMode::Unset | BucketMode::Known(Buckets::Cumulative | Buckets::Summary) => {}
        BucketMode::Known(Buckets::Disjoint | Buckets::Detailed) => {
            return Reply::bad_request("unsupported prometheus histogram bucket mode");
        }
        BucketMode::Prometheus => {
            return Reply::bad_request(
                "unsupported prometheusnative histogram type when not using protobuf exposition format",
            );
        }
    }
    request.cx.server.refresh_stats();
    // Here `type` does not count.
    if query.kinds != Kinds::None {
        query.kinds = Kinds::All;
    }
    Reply::pieces(TEXT, request.cx.stats.prometheus(query, request.query.has("text_readouts")))
}
