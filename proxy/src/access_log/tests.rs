use std::rc::Rc;
use std::sync::Arc;

use xds_protos::envoy::config::accesslog::v3 as pb;

use super::*;
use crate::server::ServerOptions;
use crate::stream_info::{ConnectionInfo, ResponseFlags, TrafficDirection};

fn cx() -> BuildCx {
    BuildCx::new(ServerOptions::default())
}

fn info(code: u16) -> StreamInfo {
    let address = || crate::net::Address::Ip("127.0.0.1:1".parse().expect("an address"));
    let connection = ConnectionInfo::new("l".into(), address(), address(), TrafficDirection::Inbound);
    let mut info = StreamInfo::new(Rc::new(connection), None);
    info.response_code = code;
    info
}

fn filter(yaml: &str) -> Result<Filter, Reject> {
    let tree = xds_protos::text::parse(yaml, xds_protos::text::Format::Yaml).expect("parses");
    let options = xds_protos::encode::Options::default();
    let name = "envoy.config.accesslog.v3.AccessLogFilter";
    let (wire, _) = xds_protos::encode::to_wire(tree.root(), name, &options).expect("encodes");
    let proto = <pb::AccessLogFilter as prost::Message>::decode(wire.as_slice()).expect("decodes");
    Filter::build(&proto, &Path::root("filter"), &cx())
}

fn hits(filter: &Filter, info: &StreamInfo) -> bool {
    let kind = AccessLogType::DownstreamEnd;
    filter.matches(&LogContext { request: None, response: None, trailers: None, info, kind })
}

#[test]
fn filters_choose_as_their_names_say() {
    let server_error =
        "{ status_code_filter: { comparison: { op: GE, value: { default_value: 500, runtime_key: k } } } }";
    let errors = filter(server_error).expect("builds");
    assert!(hits(&errors, &info(503)) && !hits(&errors, &info(404)));
    let both =
        format!("{{ and_filter: {{ filters: [ {server_error}, {{ response_flag_filter: {{ flags: [ UF ] }} }} ] }} }}");
    let both = filter(&both).expect("builds");
    let mut failed = info(503);
    assert!(!hits(&both, &failed));
    failed.set_flag(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
    assert!(hits(&both, &failed));
    let ends = filter("{ log_type_filter: { types: [ DownstreamEnd ], exclude: true } }").expect("builds");
    assert!(!hits(&ends, &info(200)));
}

#[test]
fn what_cannot_be_decided_is_refused_with_its_field() {
    let error = filter("{ metadata_filter: {} }").err().expect("is refused");
    assert_eq!(error.path, "filter.metadata_filter");
    let error = filter("{ response_flag_filter: { flags: [ XX ] } }").err().expect("is refused");
    assert_eq!(error.path, "filter.response_flag_filter.flags[0]");
}

#[test]
fn lines_reach_the_file_and_a_reopened_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let stats = cx().stats.block("filesystem");
    let open = || Sink::open(Target::File(path.clone()), std::time::Duration::from_secs(10), stats.clone());
    let sink = open().expect("opened");
    assert!(Arc::ptr_eq(&sink, &open().expect("opened")), "one sink for one file");
    sink.append(|line| line.extend_from_slice(b"one\n"));
    flush_all();
    std::fs::rename(&path, folder.path().join("old")).expect("moved");
    reopen();
    sink.append(|line| line.extend_from_slice(b"two\n"));
    flush_all();
    assert_eq!(std::fs::read_to_string(folder.path().join("old")).expect("read"), "one\n");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "two\n");
}
