//! `/stats`: every stat, as text, JSON or a page.

use crate::admin::reply::{JSON, TEXT};
use crate::admin::{Endpoint, Param, ParamKind, Query, Reply, Request};
use crate::config::matcher::Regex;
use crate::stats::render::{self, Buckets, Kinds};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/stats",
    mutates: false,
    help: "statistics",
    params: &[
        USED_ONLY,
        FILTER,
        INVERT_FILTER,
        Param {
            id: "format",
            kind: ParamKind::OneOf(&["html", "active-html", "text", "json", "prometheus"]),
            help: "format; text unless given",
        },
        Param {
            id: "type",
            kind: ParamKind::OneOf(&["All", "Counters", "Histograms", "Gauges", "TextReadouts"]),
            help: "only stats of one type",
        },
        Param {
            id: "histogram_buckets",
            kind: ParamKind::OneOf(&["summary", "cumulative", "disjoint", "detailed"]),
            help: "how to show histograms",
        },
    ],
    respond,
};

pub const USED_ONLY: Param =
    Param { id: "usedonly", kind: ParamKind::Flag, help: "only stats written since the start" };
pub const FILTER: Param =
    Param { id: "filter", kind: ParamKind::Text, help: "regular expression (RE2) found in the full name" };
pub const INVERT_FILTER: Param =
    Param { id: "invert_filter", kind: ParamKind::Flag, help: "only stats that the filter does not find" };

fn respond(request: &Request<'_>) -> Reply {
    let (query, mode) = match parse(&request.query) {
        Ok(parsed) => parsed,
        Err(why) => return Reply::bad_request(why),
    };
    let format = request.query.get("format");
    if mode == BucketMode::Prometheus && format != Some("prometheus") {
        return Reply::bad_request("Invalid histogram_buckets type for non prometheus stats type");
    }
    request.cx.server.refresh_stats();
    let stats = &request.cx.stats;
    match format {
        None | Some("" | "text") => Reply::pieces(TEXT, stats.text(query)),
        Some("json") => Reply::pieces(JSON, stats.json(query)),
        Some("prometheus") => super::prometheus::respond(request),
        Some("html" | "active-html") => {
            let text: Vec<u8> = stats.text(query).flatten().collect();
            Reply::html(super::home::page(&ENDPOINT, &request.query, &String::from_utf8_lossy(&text)))
        }
        Some(_) => Reply::bad_request("usage: /stats?format=(html|active-html|json|prometheus|text)\n\n"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketMode {
    Unset,
    Known(Buckets),
    /// `prometheusnative`: native histograms, which only the protobuf format has.
    Prometheus,
}

/// The parameters that `/stats` and `/stats/prometheus` share.
pub fn parse(query: &Query) -> Result<(render::Query, BucketMode), String> {
    let mode = match query.get("histogram_buckets") {
        None | Some("") => BucketMode::Unset,
        Some("summary") => BucketMode::Known(Buckets::Summary),
        Some("cumulative") => BucketMode::Known(Buckets::Cumulative),
        Some("disjoint") => BucketMode::Known(Buckets::Disjoint),
        Some("detailed") => BucketMode::Known(Buckets::Detailed),
        Some("prometheusnative") => BucketMode::Prometheus,
        Some(_) => {
            let modes = "cumulative|disjoint|detailed|summary|prometheusnative";
            return Err(format!("usage: /stats?histogram_buckets=({modes})\n"));
        }
    };
    let kinds = match query.get("type") {
        None | Some("" | "All") => Kinds::All,
        Some("Counters") => Kinds::Counters,
        Some("Gauges") => Kinds::Gauges,
        Some("Histograms") => Kinds::Histograms,
        Some("TextReadouts") => Kinds::TextReadouts,
        Some(_) => return Err("invalid &type= param".to_owned()),
    };
    let filter = filter(query)?;
    // None of our stats is of the kind that Envoy hides.
    let kinds = match query.get("hidden") {
        None | Some("" | "include" | "exclude") => kinds,
        Some("only") => Kinds::None,
        Some(_) => return Err("usage: /stats?hidden=(include|only|exclude)\n\n".to_owned()),
    };
    let buckets = match mode {
        BucketMode::Known(buckets) => Some(buckets),
        BucketMode::Unset | BucketMode::Prometheus => None,
    };
    let (used_only, invert_filter) = (query.has("usedonly"), query.has("invert_filter"));
    Ok((render::Query { kinds, used_only, filter, invert_filter, buckets }, mode))
}

/// The parameter `filter`, an expression that may match anywhere.
pub fn filter(query: &Query) -> Result<Option<Regex>, String> {
    match query.get("filter") {
        None | Some("") => Ok(None),
        Some(filter) => Regex::partial(filter).map(Some).map_err(|why| format!("Invalid re2 regex: {why}\n")),
    }
}
