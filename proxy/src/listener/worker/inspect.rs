//! Running the listener filters of a connection.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use super::Incoming;
use crate::listener::Listener;
use crate::listener::filters::{Facts, Inspection, ListenerFilter, OnAccept};
use crate::net::{Address, RawIo, Socket};
use crate::stats::names::ListenerStats;
use crate::stream_info::ConnectionInfo;

/// How long a connection may take to say what it is when `listener_filters_timeout` is zero. As long as the TCP proxy lets
/// a silent connection live; Envoy waits for ever.
const UNLIMITED: Duration = Duration::from_secs(3600);
const FIRST_READ: usize = 2048;

/// Why reading ended without a verdict.
enum End {
    Eof,
    Error(io::Error),
    Rejected(&'static str),
}

impl Incoming {
    /// Lets each filter look at the connection. False: it is to be closed, and that has been counted.
    pub(super) async fn run_listener_filters(&mut self, listener: &Listener) -> bool {
        let mut deadline = None;
        for configured in &listener.filters {
            let port = self.info.local_address.borrow().port();
            if configured.disabled.as_ref().is_some_and(|disabled| disabled.matches(port)) {
                continue;
            }
            let facts = match configured.filter.on_accept(&self.raw.socket, &self.info) {
                OnAccept::Done(facts) => facts,
                OnAccept::Inspect => {
                    let limit = listener.listener_filters_timeout.unwrap_or(UNLIMITED);
                    let at = *deadline.get_or_insert_with(|| Instant::now() + limit);
                    match timeout_at(at, inspect(&*configured.filter, &mut self.raw)).await {
                        Ok(Ok(facts)) => facts,
                        Ok(Err(end)) => return self.ended(listener, &end),
                        Err(_) => {
                            listener.stats.inc(ListenerStats::DOWNSTREAM_PRE_CX_TIMEOUT);
                            return listener.continue_on_listener_filters_timeout;
                        }
                    }
                }
            };
            self.raw.prefix.advance(facts.consumed.min(self.raw.prefix.len()));
            apply(&self.info, facts);
        }
        true
    }

    fn ended(&self, listener: &Listener, end: &End) -> bool {
        match end {
            // No more will come, which for a chain that takes undecided connections is as good as a timeout.
            End::Eof if listener.continue_on_listener_filters_timeout && !self.raw.prefix.is_empty() => return true,
            End::Eof => listener.stats.inc(ListenerStats::DOWNSTREAM_LISTENER_FILTER_REMOTE_CLOSE),
            End::Error(error) => {
                tracing::debug!("listener {}: read error before a filter chain: {error}", listener.name);
                listener.stats.inc(ListenerStats::DOWNSTREAM_LISTENER_FILTER_ERROR);
            }
            End::Rejected(why) => {
                let remote = self.info.remote_address.borrow();
                tracing::debug!("listener {}: closing connection from {remote}: {why}", listener.name);
            }
        }
        false
    }
}

/// Reads until the filter has a verdict.
async fn inspect(filter: &dyn ListenerFilter, raw: &mut RawIo) -> Result<Facts, End> {
    loop {
        if !raw.prefix.is_empty() {
            match filter.inspect(&raw.prefix) {
                Inspection::Done(facts) => return Ok(facts),
                Inspection::Reject(why) => return Err(End::Rejected(why)),
                Inspection::Need => {}
            }
        }
        // Filters decide at that many bytes; what is beyond stays in the kernel.
        let room = filter.max_bytes().saturating_sub(raw.prefix.len()).max(1);
        match read_some(raw, room).await {
            Ok(0) => return Err(End::Eof),
            Ok(_) => {}
            Err(error) => return Err(End::Error(error)),
        }
    }
}

/// Appends to the prefix. Holds no buffer while nothing comes. Cancel safe.
async fn read_some(raw: &mut RawIo, room: usize) -> io::Result<usize> {
    let RawIo { prefix, socket } = raw;
    let size = prefix.len().max(FIRST_READ).min(room);
    match socket {
        Socket::Tcp(tcp) => loop {
            tcp.readable().await?;
            match try_read(prefix, size, |buf| tcp.try_read(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        },
        Socket::Unix(unix) => loop {
            unix.readable().await?;
            match try_read(prefix, size, |buf| unix.try_read(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        },
        Socket::Memory(memory) => {
            prefix.reserve(size);
            memory.take(size as u64).read_buf(prefix).await
        }
    }
}

fn try_read(
    prefix: &mut BytesMut,
    size: usize,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let filled = prefix.len();
    prefix.resize(filled + size, 0);
    let result = read(prefix.get_mut(filled..).unwrap_or_default());
    prefix.truncate(filled + *result.as_ref().unwrap_or(&0));
    result
}

fn apply(info: &ConnectionInfo, facts: Facts) {
    let Facts {
        consumed: _,
        transport_protocol,
        server_name,
        application_protocols,
        remote_address,
        local_address,
        transparent,
        upstream_source,
    } = facts;
    if let Some(protocol) = transport_protocol {
        info.transport_protocol.set(protocol);
    }
    if server_name.is_some() {
        *info.requested_server_name.borrow_mut() = server_name;
    }
    if let Some(protocols) = application_protocols {
        *info.application_protocols.borrow_mut() = protocols;
    }
    if let Some(remote) = remote_address {
        *info.remote_address.borrow_mut() = Address::Ip(remote);
    }
    if let Some(local) = local_address.map(Address::Ip) {
        let restored = transparent || *info.local_address.borrow() != local;
        info.local_address_restored.set(info.local_address_restored.get() || restored);
        *info.local_address.borrow_mut() = local;
    }
    if upstream_source.is_some() {
        info.upstream_source.set(upstream_source);
    }
}
