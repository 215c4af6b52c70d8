//! A small management server: a snapshot [`Store`], served over gRPC in both variants, aggregated and by type. For
//! tests, demos, and whoever wants to embed one. Feature `server`.
//!
//! Every node gets the same resources. There is no authentication and no limit on what is buffered for a slow client:
//! serve it to clients that are trusted, over a transport that keeps others out.
//!
//! ```
//! use xds_client::server::Store;
//! use xds_client::TypeUrl;
//! use xds_protos::envoy::config::cluster::v3::Cluster;
//!
//! let store = Store::new();
//! store.set(TypeUrl::CLUSTER, "reviews", &Cluster { name: "reviews".into(), ..Cluster::default() });
//! assert_eq!(store.names(&TypeUrl::CLUSTER), ["reviews"]);
//! // let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! // xds_client::server::serve_tcp(listener, store.clone()).await?;
//! ```

pub mod call;
mod store;
mod stream;
#[cfg(test)]
mod tests;

use std::io;

use call::Call;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};

pub use store::{Batch, Entry, Store};

use crate::TypeUrl;
use crate::options::{AGGREGATED, Variant};

/// Serves one connection until the client closes it or the future is dropped.
pub async fn serve<Io: AsyncRead + AsyncWrite + Unpin>(io: Io, store: Store) -> Result<(), h2::Error> {
    let mut connection = call::handshake(io).await?;
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = connection.accept() => {
                let Some(next) = next else { return Ok(()) };
                let (request, mut respond) = next?;
                match method(request.uri().path()) {
                    Some(method) => calls.push(stream::run(Call::accept(request, respond)?, method, store.clone())),
                    None if request.method() != http::Method::POST => respond.send_reset(h2::Reason::PROTOCOL_ERROR),
                    None => Call::refuse(respond, 12, "no such method")?,
                }
            }
            Some(ended) = calls.next(), if !calls.is_empty() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a discovery stream ended");
                }
            }
        }
    }
}

/// Serves every connection of a listener, on the current task, until accepting fails or the future is dropped.
pub async fn serve_tcp(listener: tokio::net::TcpListener, store: Store) -> io::Result<()> {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = listener.accept() => connections.push(serve(next?.0, store.clone())),
            Some(_) = connections.next(), if !connections.is_empty() => {}
        }
    }
}

/// As [`serve_tcp`], on a unix socket.
pub async fn serve_unix(listener: tokio::net::UnixListener, store: Store) -> io::Result<()> {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = listener.accept() => connections.push(serve(next?.0, store.clone())),
            Some(_) = connections.next(), if !connections.is_empty() => {}
        }
    }
}

/// What a path serves: the variant, and the type unless it is aggregated.
fn method(path: &str) -> Option<(Variant, Option<TypeUrl>)> {
    match path.strip_prefix('/')?.strip_prefix(AGGREGATED) {
        Some("/DeltaAggregatedResources") => Some((Variant::Delta, None)),
        Some("/StreamAggregatedResources") => Some((Variant::Sotw, None)),
        _ => TypeUrl::of_method(path).map(|(type_url, variant)| (variant, Some(type_url))),
    }
}
