//! `envoy.filters.network.echo`: sends back what it gets.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use prost_types::Any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xds_protos::envoy::extensions::filters::network::echo::v3 as proto;

use super::{BuiltFilter, Connection, ListenerCx, TerminalFilter};
use crate::config::{Path, Reject, values};
use crate::server::drain::DrainState;

struct Echo;

pub fn build(config: &Any, path: &Path<'_>, _: &ListenerCx<'_>) -> Result<BuiltFilter, Reject> {
    let proto::Echo {} = values::decode(config, path)?;
    Ok(BuiltFilter::Terminal(Arc::new(Echo)))
}

impl TerminalFilter for Echo {
    fn serve(self: Arc<Self>, connection: Connection) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let Connection { mut io, mut drain, guard: _guard, .. } = connection;
            let echo = async {
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(n @ 1..) = io.read(&mut buffer).await {
                    if io.write_all(buffer.get(..n).unwrap_or_default()).await.is_err() || io.flush().await.is_err() {
                        return;
                    }
                }
                // The peer is done; so are we.
                let _ = io.shutdown().await;
            };
            tokio::select! {
                () = echo => {}
                () = drain.reached(DrainState::Closing) => {}
            }
        })
    }
}
