//! `envoy.filters.network.direct_response`: answers every connection with the same bytes and closes it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use prost_types::Any;
use tokio::io::AsyncWriteExt;
use xds_protos::envoy::extensions::filters::network::direct_response::v3 as proto;

use super::{BuiltFilter, Connection, ListenerCx, TerminalFilter};
use crate::config::data_source::DataSource;
use crate::config::{Path, Reject, values};

/// A peer that does not read is not waited for longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

struct DirectResponse {
    response: Bytes,
}

pub fn build(config: &Any, path: &Path<'_>, _: &ListenerCx<'_>) -> Result<BuiltFilter, Reject> {
    let proto::Config { response } = values::decode(config, path)?;
    let response = match response {
        Some(source) => DataSource::load(&source, &path.field("response"))?,
        None => Bytes::new(),
    };
    Ok(BuiltFilter::Terminal(Arc::new(DirectResponse { response })))
}

impl TerminalFilter for DirectResponse {
    fn serve(self: Arc<Self>, connection: Connection) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let Connection { mut io, guard: _guard, .. } = connection;
            let answer = async {
                io.write_all(&self.response).await?;
                io.shutdown().await
            };
            let _ = tokio::time::timeout(WRITE_TIMEOUT, answer).await;
        })
    }
}
