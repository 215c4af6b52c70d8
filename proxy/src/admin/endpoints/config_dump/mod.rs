//! `/config_dump`: all configuration as received (`envoy.admin.v3.ConfigDump`), with secrets blacked out.
//!
//! ```text
//! sections: what there is, by kind -> mask: parts of it -> json: text, a resource at a time
//! ```
//!
//! Resources are printed from the bytes that came, not from what was built of them, so unknown extensions and fields show and
//! istioctl's comparison with the control plane holds.

mod json;
mod mask;
mod sections;

use http::StatusCode;

use crate::admin::reply::JSON;
use crate::admin::{Endpoint, Param, ParamKind, Reply, Request};
use crate::config::matcher::Regex;

use mask::Mask;
use sections::{Section, Value};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/config_dump",
    mutates: false,
    help: "configuration as received, as JSON",
    params: &[
        Param { id: "resource", kind: ParamKind::Text, help: "only this list, such as dynamic_active_clusters" },
        Param { id: "mask", kind: ParamKind::Text, help: "only these fields, as a FieldMask" },
        Param { id: "name_regex", kind: ParamKind::Text, help: "only resources whose whole name matches (RE2)" },
        Param { id: "include_eds", kind: ParamKind::Flag, help: "with endpoints" },
    ],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let text = |name| request.query.get(name).filter(|text| !text.is_empty());
    let name_regex = match text("name_regex").map(Regex::new).transpose() {
        Ok(regex) => regex,
        Err(why) => return plain(StatusCode::BAD_REQUEST, format!("Error while parsing name_regex: {why}")),
    };
    let wanted = |name: &str| name_regex.as_ref().is_none_or(|regex| regex.matches(name.as_bytes()));
    let sections = sections::all(request.cx, request.query.has("include_eds"), &wanted);
    match (text("resource"), text("mask")) {
        (Some(field), mask) => resource(sections, field, mask),
        (None, Some(mask)) => masked(sections, mask),
        (None, None) => Reply::pieces(JSON, json::sections(sections)),
    }
}

/// Envoy's errors here have a content type of their own.
fn plain(status: StatusCode, text: String) -> Reply {
    Reply { content_type: "text/plain", ..Reply::text(status, text) }
}

/// `?resource=`: the elements of one list, from whichever section has it.
fn resource(sections: Vec<Section>, field: &str, mask: Option<&str>) -> Reply {
    let mask = mask.map(Mask::parse);
    for section in sections {
        let Some(kind) = section.message().and_then(|message| message.field_by_name(field)) else { continue };
        if !kind.is_repeated() {
            let why = format!("{field} is not a repeated field. Use ?mask={field} to get only this field");
            return plain(StatusCode::BAD_REQUEST, why);
        }
        let list = section.fields.into_iter().find(|(name, _)| *name == field);
        let Some((_, Value::List { element, items })) = list else { return Reply::json_text("{}\n".to_owned()) };
        let Some(mask) = mask else { return Reply::pieces(JSON, json::elements(element, items)) };
        // Trimmed now rather than while it is sent, because whether the mask fits shows only then.
        let trimmed: Option<Vec<_>> = items.iter().map(|item| mask.trim_resource(element, &item.encode())).collect();
        return match trimmed {
            Some(trimmed) => {
                Reply::pieces(JSON, json::elements(element, trimmed.into_iter().map(sections::Item::Wire).collect()))
            }
            None => plain(StatusCode::BAD_REQUEST, format!("FieldMask {mask} could not be successfully used.")),
        };
    }
    plain(StatusCode::NOT_FOUND, format!("{field} not found in config dump"))
}

/// `?mask=`: parts of the sections that have all the fields named.
fn masked(sections: Vec<Section>, text: &str) -> Reply {
    let mask = Mask::parse(text);
    let sections: Vec<Section> = sections.into_iter().filter_map(|section| mask.trim_section(section)).collect();
    if sections.is_empty() {
        let why = format!("FieldMask {text} could not be successfully applied to any configs.");
        return plain(StatusCode::BAD_REQUEST, why);
    }
    Reply::pieces(JSON, json::sections(sections))
}
