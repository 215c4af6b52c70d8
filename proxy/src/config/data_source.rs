//! `envoy.config.core.v3.DataSource`: bytes that are part of the configuration, or lie in a file or the environment.

use bytes::Bytes;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::data_source::Specifier;

use super::{Path, Reject};

/// Where the bytes come from; not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    File(std::path::PathBuf),
    Inline(Bytes),
    Environment(String),
}

impl DataSource {
    /// # Errors
    /// When nothing is named, and for `watched_directory`: files are read once.
    pub fn build(proto: &core::DataSource, path: &Path<'_>) -> Result<Self, Reject> {
        let core::DataSource { watched_directory, specifier } = proto;
        if watched_directory.is_some() {
            return Err(path.field("watched_directory").reject("watching files is not supported yet"));
        }
        let non_empty = |field: &str, text: &str| match text {
            "" => Err(path.field(field).reject("expected a name, got an empty string")),
            text => Ok(text.to_owned()),
        };
        match specifier {
            Some(Specifier::Filename(name)) => Ok(DataSource::File(non_empty("filename", name)?.into())),
            Some(Specifier::InlineBytes(bytes)) => Ok(DataSource::Inline(bytes.clone())),
            Some(Specifier::InlineString(text)) => Ok(DataSource::Inline(text.clone().into_bytes().into())),
            Some(Specifier::EnvironmentVariable(name)) => {
                Ok(DataSource::Environment(non_empty("environment_variable", name)?))
            }
            None => {
                Err(path.reject("expected filename, inline_string, inline_bytes or environment_variable, got none"))
            }
        }
    }

    /// The bytes as they are now. Blocks on the file system.
    ///
    /// # Errors
    /// When the file cannot be read, or the environment has no such variable.
    pub fn read(&self, path: &Path<'_>) -> Result<Bytes, Reject> {
        match self {
            DataSource::Inline(bytes) => Ok(bytes.clone()),
            DataSource::File(name) => std::fs::read(name).map(Bytes::from).map_err(|error| {
                path.field("filename").reject(format_args!("cannot read {}: {error}", name.display()))
            }),
            DataSource::Environment(name) => {
                use std::os::unix::ffi::OsStringExt;
                let value = std::env::var_os(name).ok_or_else(|| {
                    path.field("environment_variable").reject(format_args!("the environment has no {name:?}"))
                })?;
                Ok(value.into_vec().into())
            }
        }
    }

    /// [`build`](Self::build) and [`read`](Self::read).
    ///
    /// # Errors
    /// Those of both.
    pub fn load(proto: &core::DataSource, path: &Path<'_>) -> Result<Bytes, Reject> {
        Self::build(proto, path)?.read(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(specifier: Option<Specifier>) -> Result<Bytes, String> {
        let proto = core::DataSource { watched_directory: None, specifier };
        DataSource::load(&proto, &Path::root("d")).map_err(|r| r.path)
    }

    #[test]
    fn bytes_come_from_where_the_source_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xffx").unwrap();
        let name = file.path().to_str().unwrap().to_owned();
        assert_eq!(load(Some(Specifier::Filename(name))).unwrap(), &b"\xffx"[..]);
        assert_eq!(load(Some(Specifier::InlineString("é".into()))).unwrap(), "é");
        assert_eq!(load(Some(Specifier::InlineBytes(Bytes::from_static(b"\0")))).unwrap(), &b"\0"[..]);
        let cargo = std::env::var("CARGO_PKG_NAME").unwrap();
        assert_eq!(load(Some(Specifier::EnvironmentVariable("CARGO_PKG_NAME".into()))).unwrap(), cargo);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(load(None), Err("d".into()));
        assert_eq!(load(Some(Specifier::Filename(String::new()))), Err("d.filename".into()));
        assert_eq!(load(Some(Specifier::Filename("/nonexistent/file".into()))), Err("d.filename".into()));
        let variable = Specifier::EnvironmentVariable("OUTRIGGER_TEST_UNSET".into());
        assert_eq!(load(Some(variable)), Err("d.environment_variable".into()));
        let proto = core::DataSource {
            watched_directory: Some(core::WatchedDirectory::default()),
            specifier: Some(Specifier::InlineString(String::new())),
        };
        assert_eq!(DataSource::build(&proto, &Path::root("d")).unwrap_err().path, "d.watched_directory");
    }
}
