//! `envoy.config.core.v3.SubstitutionFormatString`: a format of text or JSON with its options.

use http::HeaderValue;
use xds_protos::envoy::config::core::v3 as pb;
use xds_protos::envoy::config::core::v3::substitution_format_string::Format;

use super::command::Extensions;
use super::json::JsonFormatter;
use super::text::Formatter;
use crate::access_log::{AccessLogType, LogContext};
use crate::config::data_source::DataSource;
use crate::config::{Path, Reject};

pub struct LineFormat {
    kind: Kind,
    omit_empty_values: bool,
    /// `content_type`, or else what the kind of format makes: for local replies and direct responses.
    pub content_type: HeaderValue,
}

enum Kind {
    Text(Formatter),
    Json(JsonFormatter),
}

impl LineFormat {
    /// # Errors
    /// A bad format, an unknown formatter extension.
    #[expect(deprecated, reason = "text_format and sort_properties are still sent")]
    pub fn build(proto: &pb::SubstitutionFormatString, path: &Path) -> Result<LineFormat, Reject> {
        let pb::SubstitutionFormatString { omit_empty_values, content_type, formatters, json_format_options, format } =
            proto;
        // Keys are always sorted, as in Envoy, which does not look at this any more.
        if let Some(pb::JsonFormatOptions { sort_properties: _ }) = json_format_options {}
        let extensions = extensions(formatters, &path.field("formatters"))?;
        let text = |text: &str, field: &str| {
            Formatter::parse(text, extensions).map(Kind::Text).map_err(|why| path.field(field).reject(why))
        };
        let kind = match format {
            Some(Format::TextFormat(format)) => text(format, "text_format")?,
            Some(Format::TextFormatSource(source)) => {
                let source_path = path.field("text_format_source");
                let bytes = DataSource::load(source, &source_path)?;
                let format = std::str::from_utf8(&bytes).map_err(|_| source_path.reject("expected text in UTF-8"))?;
                text(format, "text_format_source")?
            }
            Some(Format::JsonFormat(format)) => {
                let json = JsonFormatter::build(format, extensions);
                Kind::Json(json.map_err(|why| path.field("json_format").reject(why))?)
            }
            None => return Err(path.reject("expected one of text_format_source, text_format, json_format")),
        };
        let content_type = match (content_type.as_str(), &kind) {
            ("", Kind::Text(_)) => HeaderValue::from_static("text/plain"),
            ("", Kind::Json(_)) => HeaderValue::from_static("application/json"),
            (given, _) => HeaderValue::from_str(given)
                .map_err(|_| path.field("content_type").reject(format_args!("expected a media type, got {given:?}")))?,
        };
        Ok(LineFormat { kind, omit_empty_values: *omit_empty_values, content_type })
    }

    /// Text with these operators and `-` for missing values.
    ///
    /// # Errors
    /// Those of [`Formatter::parse`].
    pub fn text(format: &str) -> Result<LineFormat, String> {
        let kind = Kind::Text(Formatter::parse(format, Extensions::default())?);
        Ok(LineFormat { kind, omit_empty_values: false, content_type: HeaderValue::from_static("text/plain") })
    }

    /// JSON of these operators.
    ///
    /// # Errors
    /// Those of [`Formatter::parse`].
    pub fn json(format: &prost_types::Struct) -> Result<LineFormat, String> {
        let kind = Kind::Json(JsonFormatter::build(format, Extensions::default())?);
        Ok(LineFormat { kind, omit_empty_values: false, content_type: HeaderValue::from_static("application/json") })
    }

    /// Appends what the format makes of the context: a line of a log or, for [`AccessLogType::NotSet`], a body. JSON ends with a line break; text has its own, or none.
    pub fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) {
        let empty = if self.omit_empty_values { "" } else { "-" };
        match &self.kind {
            Kind::Text(format) if cx.kind == AccessLogType::NotSet => format.write_body(cx, empty, out),
            Kind::Text(format) => format.write(cx, empty, out),
            Kind::Json(format) => {
                format.write(cx, self.omit_empty_values, out);
                out.push(b'\n');
            }
        }
    }
}

fn extensions(protos: &[pb::TypedExtensionConfig], path: &Path) -> Result<Extensions, Reject> {
    let mut extensions = Extensions::default();
    for (i, proto) in protos.iter().enumerate() {
        let type_url = proto.typed_config.as_ref().map_or("", |any| any.type_url.as_str());
        match type_url.rsplit('/').next().unwrap_or_default() {
            "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery" => extensions.req_without_query = true,
            // Built in.
            "envoy.extensions.formatter.metadata.v3.Metadata" => {}
            _ => {
                let why = format_args!("formatter {:?} with type URL {type_url:?} is not known", proto.name);
                return Err(path.index(i).reject(why));
            }
        }
    }
    Ok(extensions)
}
