//! `envoy.filters.listener.original_dst`: gives a redirected connection back the address it was made to.
//!
//! REDIRECT rules leave it in the kernel's connection tracking (`SO_ORIGINAL_DST`); under TPROXY rules the socket's own
//! address is it, and since nothing tells whether a connection to a transparent socket was redirected, all of them count.

use std::sync::Arc;

use prost_types::Any;
use socket2::SockRef;
use xds_protos::envoy::extensions::filters::listener::original_dst::v3 as proto;

use super::{Facts, ListenerFilter, OnAccept};
use crate::config::{BuildCx, Path, Reject, values};
use crate::net::{Socket, canonical};
use crate::stream_info::ConnectionInfo;
use crate::sys;

struct OriginalDst;

pub fn build(config: &Any, path: &Path<'_>, _: &BuildCx) -> Result<Arc<dyn ListenerFilter>, Reject> {
    let proto::OriginalDst {} = values::decode(config, path)?;
    Ok(Arc::new(OriginalDst))
}

/// The filter that `use_original_dst` stands for.
pub(crate) fn implied() -> Arc<dyn ListenerFilter> {
    Arc::new(OriginalDst)
}

impl ListenerFilter for OriginalDst {
    fn on_accept(&self, socket: &Socket, info: &ConnectionInfo) -> OnAccept {
        let Socket::Tcp(tcp) = socket else { return OnAccept::Done(Facts::default()) };
        let local = info.direct_local_address.socket();
        let redirected = sys::original_destination(tcp).map(canonical).filter(|to| Some(*to) != local);
        let facts = match (redirected, transparent(tcp)) {
            (None, Some(local)) => Facts { local_address: Some(local), transparent: true, ..Facts::default() },
            (redirected, _) => Facts { local_address: redirected, ..Facts::default() },
        };
        OnAccept::Done(facts)
    }
}

/// The socket's own address if it is transparent.
fn transparent(tcp: &tokio::net::TcpStream) -> Option<std::net::SocketAddr> {
    let local = tcp.local_addr().ok()?;
    let socket = SockRef::from(tcp);
    let on = if local.is_ipv4() { socket.ip_transparent_v4() } else { socket.ip_transparent_v6() };
    on.unwrap_or(false).then(|| canonical(local))
}
