//! `/`: the table of endpoints as a page with a form for each.

use std::fmt::Write;

use super::ENDPOINTS;
use crate::admin::{Endpoint, Param, ParamKind, Query, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint { path: "/", mutates: false, help: "this page", params: &[], respond };

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<title>Envoy Admin</title>
<style>
body { font-family: sans-serif; margin: 1.5em }
form { display: grid; grid-template-columns: minmax(12em, 20%) auto; gap: .3em 1em; padding: .6em }
form:nth-child(odd) { background: #f0f2f5 }
button { font: inherit; text-align: left }
.post { font-weight: bold }
</style>
</head>
<body>
";

fn respond(_: &Request<'_>) -> Reply {
    let mut out = String::from(HEAD);
    ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.path != "/")
        .for_each(|endpoint| form(&mut out, endpoint, &Query::default()));
    out.push_str("</body>\n</html>\n");
    Reply::html(out)
}

/// A page with the form of one endpoint, filled in as `query` has it, and a result.
pub fn page(endpoint: &Endpoint, query: &Query, result: &str) -> String {
    let mut out = String::from(HEAD);
    form(&mut out, endpoint, query);
    let _ = write!(out, "<pre>\n{}</pre>\n</body>\n</html>\n", escape(result));
    out
}

/// Writing to a string cannot fail, so its results are dropped here.
fn form(out: &mut String, endpoint: &Endpoint, query: &Query) {
    let path = endpoint.path.trim_start_matches('/');
    let (method, class) = if endpoint.mutates { ("post", " class=\"post\"") } else { ("get", "") };
    let _ = writeln!(out, "<form action=\"/{path}\" method=\"{method}\">");
    let _ = writeln!(out, "<button{class}>{path}</button><span>{}</span>", escape(endpoint.help));
    endpoint.params.iter().for_each(|param| input(out, param, query.get(param.id)));
    out.push_str("</form>\n");
}

fn input(out: &mut String, param: &Param, value: Option<&str>) {
    let Param { id, kind, help } = param;
    let _ = match kind {
        ParamKind::Flag => {
            let checked = if value.is_some() { " checked" } else { "" };
            write!(out, "<span><input type=\"checkbox\" name=\"{id}\"{checked}> {id}</span>")
        }
        ParamKind::Text => {
            let value = escape(value.unwrap_or_default());
            write!(out, "<input type=\"text\" name=\"{id}\" placeholder=\"{id}\" value=\"{value}\">")
        }
        ParamKind::OneOf(values) => {
            let option = |of: &&str| {
                let selected = if value == Some(of) { " selected" } else { "" };
                format!("<option{selected}>{of}</option>")
            };
            let options: String = values.iter().map(option).collect();
            write!(out, "<select name=\"{id}\">{options}</select>")
        }
    };
    let _ = writeln!(out, "<label>{}</label>", escape(help));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
