//! Operators with arguments: reading them, and what they write.

use std::time::SystemTime;

use http::HeaderMap;
use ipnet::IpNet;

use super::coalesce;
use super::grpc::{self, GrpcFormat};
use super::metadata::MetadataOp;
use super::operators::{self, Eval, duration, without_spaces};
use super::time::{self, TimeFormat};
use super::uri::{self, PathOp, QueryParams, ServerName};
use super::write::{Written, number, optional, truncate};
use crate::access_log::LogContext;
use crate::http::FieldName;
use crate::net::Address;

/// One operator with its arguments, and how long its text may be.
pub(super) struct Command {
    op: Op,
    max_length: Option<usize>,
}

enum Op {
    Simple(Eval),
    /// Known when the format was read.
    Constant(Option<Box<[u8]>>),
    RequestHeader(HeaderArg),
    /// `REQ_WITHOUT_QUERY`
    RequestHeaderWithoutQuery(HeaderArg),
    ResponseHeader(HeaderArg),
    ResponseTrailer(HeaderArg),
    Time(Clock, TimeFormat),
    CommonDuration(Point, Point, Precision),
    AddressWithoutPort(Which, Option<u8>),
    ResponseCodeDetails {
        keep_spaces: bool,
    },
    GrpcStatus(GrpcFormat),
    Path(PathOp),
    QueryParameter(Box<str>),
    QueryParameters(QueryParams),
    RequestedServerName(ServerName),
    Metadata(MetadataOp),
    Coalesce(Box<[Command]>),
}

/// What the `formatters` list of a format string allows beside the built-in operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `envoy.formatter.req_without_query`
    pub req_without_query: bool,
}

/// An operator as it stands in a format.
pub(super) struct Spelled<'f> {
    pub name: &'f str,
    /// What stands in parentheses, if they are there.
    pub argument: Option<&'f str>,
    pub max_length: Option<usize>,
}

/// What an operator takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Argument { required: bool, length: bool },
}

impl Takes {
    /// Envoy's words.
    fn check(self, spelled: &Spelled<'_>) -> Result<(), String> {
        let name = spelled.name;
        let has_argument = spelled.argument.is_some_and(|argument| !argument.is_empty());
        match self {
            Takes::Nothing if has_argument || spelled.max_length.is_some() => {
                Err(format!("{name} does not take any parameters or length"))
            }
            Takes::Argument { required: true, .. } if !has_argument => Err(format!("{name} requires parameters")),
            Takes::Argument { length: false, .. } if spelled.max_length.is_some() => {
                Err(format!("{name} does not allow length to be specified."))
            }
            _ => Ok(()),
        }
    }
}

impl Command {
    /// # Errors
    /// In Envoy's words, for unknown operators and wrong arguments.
    pub fn build(spelled: &Spelled<'_>, extensions: Extensions) -> Result<Command, String> {
        let takes = |required, length| Takes::Argument { required, length }.check(spelled);
        let argument = spelled.argument.unwrap_or_default();
        let op = match spelled.name {
            "REQ" | "REQUEST_HEADER" => {
                takes(true, true).and_then(|()| Ok(Op::RequestHeader(HeaderArg::parse(argument)?)))
            }
            "RESP" | "RESPONSE_HEADER" => {
                takes(true, true).and_then(|()| Ok(Op::ResponseHeader(HeaderArg::parse(argument)?)))
            }
            "TRAILER" | "RESPONSE_TRAILER" => {
                takes(true, true).and_then(|()| Ok(Op::ResponseTrailer(HeaderArg::parse(argument)?)))
            }
            "REQ_WITHOUT_QUERY" if extensions.req_without_query => {
                takes(true, true).and_then(|()| Ok(Op::RequestHeaderWithoutQuery(HeaderArg::parse(argument)?)))
            }
            "START_TIME"
            | "EMIT_TIME"
            | "START_TIME_LOCAL"
            | "EMIT_TIME_LOCAL"
            | "DOWNSTREAM_PEER_CERT_V_START"
            | "DOWNSTREAM_PEER_CERT_V_END"
            | "UPSTREAM_PEER_CERT_V_START"
            | "UPSTREAM_PEER_CERT_V_END" => takes(false, false).and_then(|()| time_op(spelled.name, argument)),
            "COMMON_DURATION" => takes(true, false).and_then(|()| common_duration(argument)),
            "RESPONSE_CODE_DETAILS" => {
                takes(false, false).map(|()| Op::ResponseCodeDetails { keep_spaces: argument == "ALLOW_WHITESPACES" })
            }
            "GRPC_STATUS" => takes(false, false).and_then(|()| Ok(Op::GrpcStatus(GrpcFormat::parse(argument)?))),
            "GRPC_STATUS_NUMBER" => Takes::Nothing.check(spelled).map(|()| Op::GrpcStatus(GrpcFormat::Number)),
            "PATH" => takes(false, true).and_then(|()| Ok(Op::Path(PathOp::parse(argument)?))),
            "QUERY_PARAM" => takes(true, true).map(|()| Op::QueryParameter(argument.into())),
            "QUERY_PARAMS" => takes(false, true).and_then(|()| Ok(Op::QueryParameters(QueryParams::parse(argument)?))),
            "REQUESTED_SERVER_NAME" => {
                takes(false, false).and_then(|()| Ok(Op::RequestedServerName(ServerName::parse(argument)?)))
            }
            "ENVIRONMENT" => takes(true, true).map(|()| Op::Constant(environment(argument))),
            "HOSTNAME" => Takes::Nothing.check(spelled).map(|()| Op::Constant(hostname())),
            "COALESCE" => takes(true, true).and_then(|()| Ok(Op::Coalesce(coalesce::parse(argument, extensions)?))),
            name => other(name, spelled, argument),
        };
        Ok(Command { op: op?, max_length: spelled.max_length })
    }

    /// Appends the operator's value as text. Nothing is appended when it is missing.
    pub fn write_text(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Written {
        let start = out.len();
        let written = self.op.write(cx, out);
        truncate(out, start, self.max_length);
        written
    }

    /// The same for a typed value, of which only text may be cut short.
    pub fn write_value(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Written {
        let start = out.len();
        let written = self.op.write(cx, out);
        if written == Written::Text {
            truncate(out, start, self.max_length);
        }
        written
    }
}

/// Operators whose argument is optional in one way for a whole family, and the simple ones.
fn other(name: &str, spelled: &Spelled<'_>, argument: &str) -> Result<Op, String> {
    if let Some(which) = Which::of(name) {
        Takes::Argument { required: false, length: false }.check(spelled)?;
        return Ok(Op::AddressWithoutPort(which, argument.parse().ok()));
    }
    if let Some((required, length)) = MetadataOp::takes(name) {
        Takes::Argument { required, length }.check(spelled)?;
        return MetadataOp::parse(name, argument).map(Op::Metadata);
    }
    if let Some(eval) = operators::find(name) {
        Takes::Nothing.check(spelled)?;
        return Ok(Op::Simple(eval));
    }
    match operators::UNSUPPORTED.iter().find(|(have, _)| *have == name) {
        Some((name, why)) => Err(format!("{name} is not supported: {why}")),
        None => Err(format!("Not supported field in StreamInfo: {name}")),
    }
}

impl Op {
    fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Written {
        match self {
            Op::Simple(eval) => eval(cx, out),
            Op::Constant(value) => optional(out, value.as_deref()),
            Op::RequestHeader(arg) => arg.write(out, |name| cx.request.and_then(|head| name.request(head).next())),
            Op::RequestHeaderWithoutQuery(arg) => {
                let start = out.len();
                let written = arg.write(out, |name| cx.request.and_then(|head| name.request(head).next()));
                let query = out.get(start..).and_then(|value| value.iter().position(|b| *b == b'?'));
                truncate(out, start, query);
                written
            }
            Op::ResponseHeader(arg) => arg.write(out, |name| cx.response.and_then(|head| name.response(head).next())),
            Op::ResponseTrailer(arg) => {
                arg.write(out, |name| cx.trailers.and_then(|trailers: &HeaderMap| name.map(trailers).next()))
            }
            Op::Time(clock, format) => match clock.at(cx) {
                Some(at) => {
                    format.write(at, out);
                    Written::Text
                }
                None => Written::Missing,
            },
            Op::CommonDuration(from, to, precision) => {
                duration(from.at(cx), to.at(cx)).map_or(Written::Missing, |between| match precision {
                    Precision::Millis => number(out, between.as_millis() as u64),
                    Precision::Micros => number(out, between.as_micros() as u64),
                    Precision::Nanos => number(out, between.as_nanos() as u64),
                })
            }
            Op::AddressWithoutPort(which, mask) => which.with(cx, |address| masked(out, address, *mask)),
            Op::ResponseCodeDetails { keep_spaces: true } => {
                optional(out, cx.info.response_code_details.as_deref().filter(|details| !details.is_empty()))
            }
            Op::ResponseCodeDetails { keep_spaces: false } => {
                without_spaces(out, cx.info.response_code_details.as_deref())
            }
            Op::GrpcStatus(format) => grpc::write(cx, *format, out),
            Op::Path(op) => op.write(cx, out),
            Op::QueryParameter(name) => uri::write_query_parameter(cx, name, out),
            Op::QueryParameters(op) => op.write(cx, out),
            Op::RequestedServerName(op) => op.write(cx, out),
            Op::Metadata(op) => op.write(cx, out),
            Op::Coalesce(commands) => {
                let first =
                    commands.iter().map(|command| command.write_value(cx, out)).find(|w| *w != Written::Missing);
                first.unwrap_or(Written::Missing)
            }
        }
    }
}

/// `X?Y`: a header, and the one to take when it is missing. Of several values the first counts.
struct HeaderArg {
    main: Option<FieldName>,
    alternative: Option<FieldName>,
}

impl HeaderArg {
    fn parse(argument: &str) -> Result<HeaderArg, String> {
        let mut names = argument.split('?');
        let name = |name: Option<&str>| match name.unwrap_or_default() {
            "" => Ok(None),
            name => FieldName::parse(name)
                .map(Some)
                .ok_or("Invalid header configuration. Format string contains invalid characters."),
        };
        let (main, alternative) = (name(names.next())?, name(names.next())?);
        match names.next() {
            None => Ok(HeaderArg { main, alternative }),
            Some(_) => Err(format!("More than 1 alternative header specified in token: {argument}")),
        }
    }

    fn write<'c>(&self, out: &mut Vec<u8>, first: impl Fn(&FieldName) -> Option<&'c [u8]>) -> Written {
        optional(out, [&self.main, &self.alternative].into_iter().flatten().find_map(first))
    }
}

/// Which moment a time operator prints.
#[derive(Clone, Copy)]
enum Clock {
    Start,
    Emit,
    Certificate { upstream: bool, end: bool },
}

impl Clock {
    fn at(self, cx: &LogContext<'_>) -> Option<SystemTime> {
        match self {
            Clock::Start => Some(cx.info.start_time),
            Clock::Emit => Some(SystemTime::now()),
            Clock::Certificate { upstream, end } => {
                let cert = if upstream { operators::up_peer(cx) } else { operators::peer(cx) }?;
                let seconds = if end { cert.not_after() } else { cert.not_before() };
                let since = std::time::Duration::from_secs(seconds.unsigned_abs());
                let epoch = SystemTime::UNIX_EPOCH;
                if seconds < 0 { epoch.checked_sub(since) } else { epoch.checked_add(since) }
            }
        }
    }
}

fn time_op(name: &str, argument: &str) -> Result<Op, String> {
    let clock = match name {
        "START_TIME" | "START_TIME_LOCAL" => Clock::Start,
        "EMIT_TIME" | "EMIT_TIME_LOCAL" => Clock::Emit,
        name => Clock::Certificate { upstream: name.starts_with("UPSTREAM"), end: name.ends_with("END") },
    };
    let local = name.ends_with("_LOCAL");
    let format = match argument {
        "" if local => time::DEFAULT_LOCAL,
        "" => time::DEFAULT,
        format => format,
    };
    Ok(Op::Time(clock, TimeFormat::parse(format, local)?))
}

#[derive(Clone, Copy)]
enum Precision {
    Millis,
    Micros,
    Nanos,
}

/// A point in the life of a request or connection.
#[derive(Clone, Copy)]
enum Point {
    DownstreamRxBegin,
    DownstreamRxEnd,
    DownstreamTxBegin,
    DownstreamTxEnd,
    DownstreamConnectionBegin,
    DownstreamHandshakeEnd,
    UpstreamConnectionBegin,
    UpstreamConnectionEnd,
    UpstreamHandshakeEnd,
    UpstreamTxBegin,
    UpstreamTxEnd,
    UpstreamRxBegin,
    UpstreamRxBodyBegin,
    UpstreamRxEnd,
    /// One that only a filter of another kind would set, and `DS_CX_END`, which comes after every line.
    Never,
}

impl Point {
    fn parse(name: &str) -> Point {
        match name {
            "DS_RX_BEG" => Point::DownstreamRxBegin,
            "DS_RX_END" => Point::DownstreamRxEnd,
            "DS_TX_BEG" => Point::DownstreamTxBegin,
            "DS_TX_END" => Point::DownstreamTxEnd,
            "DS_CX_BEG" => Point::DownstreamConnectionBegin,
            "DS_HS_END" => Point::DownstreamHandshakeEnd,
            "US_CX_BEG" => Point::UpstreamConnectionBegin,
            "US_CX_END" => Point::UpstreamConnectionEnd,
            "US_HS_END" => Point::UpstreamHandshakeEnd,
            "US_TX_BEG" => Point::UpstreamTxBegin,
            "US_TX_END" => Point::UpstreamTxEnd,
            "US_RX_BEG" => Point::UpstreamRxBegin,
            "US_RX_BODY_BEG" => Point::UpstreamRxBodyBegin,
            "US_RX_END" => Point::UpstreamRxEnd,
            _ => Point::Never,
        }
    }

    fn at(self, cx: &LogContext<'_>) -> Option<std::time::Instant> {
        let (info, upstream) = (cx.info, &cx.info.upstream.timing);
        match self {
            Point::DownstreamRxBegin => Some(info.start),
            Point::DownstreamRxEnd => info.request_complete,
            Point::DownstreamTxBegin => info.first_downstream_tx,
            Point::DownstreamTxEnd => info.last_downstream_tx,
            Point::DownstreamConnectionBegin => Some(info.connection.start),
            Point::DownstreamHandshakeEnd => info.connection.handshake_done.get(),
            Point::UpstreamConnectionBegin => upstream.connect_start,
            Point::UpstreamConnectionEnd => upstream.connect_end,
            Point::UpstreamHandshakeEnd => upstream.handshake_end,
            Point::UpstreamTxBegin => upstream.first_tx,
            Point::UpstreamTxEnd => upstream.last_tx,
            Point::UpstreamRxBegin => upstream.first_rx,
            Point::UpstreamRxBodyBegin => upstream.first_rx_body,
            Point::UpstreamRxEnd => upstream.last_rx,
            Point::Never => None,
        }
    }
}

fn common_duration(argument: &str) -> Result<Op, String> {
    let parts: Vec<&str> = argument.split(':').collect();
    let (from, to, precision) = match parts.as_slice() {
        [from, to] => (from, to, "ms"),
        [from, to, precision] => (from, to, *precision),
        _ => return Err(format!("Invalid common duration configuration: {argument}.")),
    };
    let precision = match precision {
        "ms" => Precision::Millis,
        "us" => Precision::Micros,
        "ns" => Precision::Nanos,
        other => return Err(format!("Invalid common duration precision: {other}.")),
    };
    Ok(Op::CommonDuration(Point::parse(from), Point::parse(to), precision))
}

/// Whose address.
#[derive(Clone, Copy)]
enum Which {
    DownstreamRemote,
    DownstreamLocal,
    DownstreamDirectRemote,
    DownstreamDirectLocal,
    UpstreamRemote,
    UpstreamLocal,
}

impl Which {
    fn of(name: &str) -> Option<Which> {
        Some(match name.strip_suffix("_ADDRESS_WITHOUT_PORT")? {
            "DOWNSTREAM_REMOTE" => Which::DownstreamRemote,
            "DOWNSTREAM_LOCAL" => Which::DownstreamLocal,
            "DOWNSTREAM_DIRECT_REMOTE" => Which::DownstreamDirectRemote,
            "DOWNSTREAM_DIRECT_LOCAL" => Which::DownstreamDirectLocal,
            "UPSTREAM_REMOTE" => Which::UpstreamRemote,
            "UPSTREAM_LOCAL" => Which::UpstreamLocal,
            _ => return None,
        })
    }

    fn with(self, cx: &LogContext<'_>, f: impl FnOnce(&Address) -> Written) -> Written {
        let connection = &cx.info.connection;
        match self {
            Which::DownstreamRemote => operators::with_remote(cx, f),
            Which::DownstreamLocal => f(&connection.local_address.borrow()),
            Which::DownstreamDirectRemote => f(&connection.direct_remote_address),
            Which::DownstreamDirectLocal => f(&connection.direct_local_address),
            Which::UpstreamRemote => cx.info.upstream.remote_address.as_ref().map_or(Written::Missing, f),
            Which::UpstreamLocal => cx.info.upstream.local_address.as_ref().map_or(Written::Missing, f),
        }
    }
}

/// The address without its port; with a prefix length as a range (`10.1.0.0/16`), at most the whole address.
fn masked(out: &mut Vec<u8>, address: &Address, prefix: Option<u8>) -> Written {
    let (Some(ip), Some(prefix)) = (address.ip(), prefix) else { return operators::without_port(out, address) };
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    match IpNet::new(ip, prefix.min(whole)) {
        Ok(range) => {
            super::write::ip(out, range.trunc().addr());
            out.push(b'/');
            number(out, range.prefix_len());
            Written::Text
        }
        Err(_) => super::write::ip(out, ip),
    }
}

fn environment(name: &str) -> Option<Box<[u8]>> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os(name).map(|value| value.into_vec().into())
}

fn hostname() -> Option<Box<[u8]>> {
    std::fs::read("/proc/sys/kernel/hostname").ok().map(|name| name.trim_ascii().into())
}
