//! `envoy.filters.listener.original_src`: upstream connections come from the address of the downstream.
//!
//! It only notes the address (after the PROXY protocol); [`crate::pool::connect`] binds to it, with `IP_TRANSPARENT`
//! and the mark for the routing rules that bring the answers back. Both need CAP_NET_ADMIN, which Envoy also finds out only
//! when it connects: such a connection fails and says why, it never goes out under our own address.

use std::sync::Arc;

use prost_types::Any;
use xds_protos::envoy::extensions::filters::listener::original_src::v3 as proto;

use super::{Facts, ListenerFilter, OnAccept};
use crate::config::{BuildCx, Path, Reject, values};
use crate::net::Socket;
use crate::stream_info::ConnectionInfo;
use crate::transport_socket::UpstreamSource;

struct OriginalSrc {
    mark: u32,
}

pub fn build(config: &Any, path: &Path<'_>, _: &BuildCx) -> Result<Arc<dyn ListenerFilter>, Reject> {
    let proto::OriginalSrc { bind_port, mark } = values::decode(config, path)?;
    if bind_port {
        return Err(path.field("bind_port").reject("not supported, as in Envoy"));
    }
    Ok(Arc::new(OriginalSrc { mark }))
}

impl ListenerFilter for OriginalSrc {
    fn on_accept(&self, _: &Socket, info: &ConnectionInfo) -> OnAccept {
        let address = info.remote_address.borrow().ip();
        let upstream_source = address.map(|address| UpstreamSource { address, mark: self.mark });
        OnAccept::Done(Facts { upstream_source, ..Facts::default() })
    }
}
