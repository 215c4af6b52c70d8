//! The xDS transport protocol, for clients: delta and state of the world, aggregated or one type a stream. Knows
//! nothing about proxies: a [`Handler`] says what becomes of the resources.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | [`TypeUrl`], [`Resource`], [`Update`], [`Rejected`] | the words | no |
//! | [`Handler`], [`Subscriptions`] | the two sides that a user meets | no |
//! | [`session`], [`BackOff`] | the protocol as a state machine | no |
//! | [`run`] | the driver of one stream | through a transport |
//! | [`transport`] | HTTP/2 over any byte stream, tonic's channel | yes |
//! | [`watch`] | files that are replaced by moves | inotify |
//! | [`FileSource`] | resources from a watched file | yes |
//! | `server` (feature) | a small management server | yes |
//!
//! ```no_run
//! use std::time::Duration;
//! use xds_client::transport::http2::{Connector, Http2Options};
//! use xds_client::{Handler, Options, Rejected, Subscriptions, TypeUrl, Update, Variant};
//! use xds_protos::envoy::config::core::v3::Node;
//!
//! struct Printer;
//! impl Handler for Printer {
//!     fn update(&mut self, update: Update) -> Vec<Rejected> {
//!         for resource in &update.added {
//!             println!("{} {} at {}", update.type_url, resource.name, resource.version);
//!         }
//!         Vec::new()
//!     }
//! }
//!
//! # async fn example() {
//! let node = Node { id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local".into(), ..Node::default() };
//! let transport = Connector::new(Http2Options::default(), || tokio::net::TcpStream::connect("127.0.0.1:15010"));
//! let (subscriptions, commands) = Subscriptions::new();
//! subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
//! let client = xds_client::run(Options::new(node, Variant::Delta), commands, transport, Printer);
//! tokio::task::LocalSet::new().run_until(client).await;
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::todo)
)]

mod back_off;
mod codec;
mod driver;
mod file;
mod handler;
mod options;
mod resource;
#[cfg(feature = "server")]
pub mod server;
pub mod session;
mod subscriptions;
mod token_bucket;
pub mod transport;
mod type_url;
pub mod watch;

pub use back_off::BackOff;
pub use driver::run;
pub use file::FileSource;
pub use handler::{Handler, Missing, StreamEvent};
pub use options::{BackOffOptions, DEFAULT_INITIAL_FETCH_TIMEOUT, Options, RateLimit, Service, Variant};
pub use resource::{Any, Rejected, Resource, Update};
pub use subscriptions::{Commands, Subscriptions, WILDCARD};
pub use transport::Transport;
pub use type_url::TypeUrl;
