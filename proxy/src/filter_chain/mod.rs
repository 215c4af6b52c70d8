//! `envoy.config.listener.v3.FilterChain`: a transport socket and network filters, and the match that chooses a chain.
//!
//! [`FilterChains`] are the chains of one listener. [`FilterChains::find`] follows Envoy's order: destination port,
//! destination IP, server name, transport protocol, application protocol, direct source IP, source type, source IP, source
//! port. At each step the most specific branch that fits is taken and never left again: when nothing fits deeper in it, no
//! other branch is tried, and the connection gets the `default_filter_chain` or none.
//!
//! Deliberately missing: `filter_chain_matcher`, `address_suffix` and `suffix_len` (Envoy has not got those either), chains
//! discovered by FCDS. All are refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use xds_protos::envoy::config::listener::v3 as proto;

use crate::config::{Path, Reject};
use crate::listener::connections::Connections;
use crate::network::{ListenerCx, NetworkFilter, TerminalFilter};
use crate::server::drain::DrainSource;
use crate::stream_info::ConnectionInfo;
use crate::transport_socket::Downstream;

mod build;
mod matcher;
#[cfg(test)]
mod tests;

pub use matcher::Subject;

use matcher::Tree;

/// One filter chain as built.
pub struct FilterChain {
    pub name: Arc<str>,
    pub transport: Downstream,
    /// `transport_socket_connect_timeout`; `None` stands for our own bound on handshakes.
    pub transport_connect_timeout: Option<Duration>,
    pub filters: Vec<Arc<dyn NetworkFilter>>,
    pub terminal: Arc<dyn TerminalFilter>,
    /// Tells the connections of this chain to end. A chain that an update of its listener keeps goes on undisturbed.
    pub drain: DrainSource,
    /// Connections that this chain serves, on all workers.
    pub open: Arc<Connections>,
}

/// Chains that exist already, by the message they were built of.
#[derive(Default)]
pub struct KnownChains(HashMap<Vec<u8>, Arc<FilterChain>>);

impl KnownChains {
    fn get(&self, proto: &proto::FilterChain) -> Option<Arc<FilterChain>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&proto.encode_to_vec()).cloned()
    }
}

/// The filter chains of a listener.
pub struct FilterChains {
    chains: Vec<Arc<FilterChain>>,
    tree: Tree,
    default: Option<Arc<FilterChain>>,
}

impl FilterChains {
    /// From `filter_chains` and `default_filter_chain`; `path` is the listener's. Chains that are equal to one of `known` are
    /// that one.
    ///
    /// # Errors
    /// When a chain cannot be built, or two match the same connections.
    pub fn build(
        chains: &[proto::FilterChain],
        default: Option<&proto::FilterChain>,
        known: &KnownChains,
        path: &Path<'_>,
        cx: &ListenerCx<'_>,
    ) -> Result<Self, Reject> {
        let one = |chain: &proto::FilterChain, path: &Path<'_>| match known.get(chain) {
            Some(chain) => Ok(chain),
            None => build::filter_chain(chain, path, cx).map(Arc::new),
        };
        let mut built = Vec::with_capacity(chains.len());
        let mut tree = Tree::default();
        for (index, chain) in chains.iter().enumerate() {
            let path = path.field("filter_chains");
            let path = path.index(index);
            let matches = chain.filter_chain_match.clone().unwrap_or_default();
            tree.add(&matches, index, &path.field("filter_chain_match")).map_err(|refused| match refused {
                matcher::Refused::Field(reject) => reject,
                matcher::Refused::Overlaps(other) => {
                    let name = chains.get(other).map(|c| c.name.as_str()).unwrap_or_default();
                    let why = format_args!("matches the same connections as filter_chains[{other}] {name:?}");
                    path.field("filter_chain_match").reject(why)
                }
            })?;
            built.push(one(chain, &path)?);
        }
        let default = default.map(|chain| one(chain, &path.field("default_filter_chain")));
        Ok(FilterChains { chains: built, tree, default: default.transpose()? })
    }

    /// All chains, the default one last.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter().chain(&self.default)
    }

    /// These chains with the messages they were built of, for an update.
    pub fn known(&self, chains: &[proto::FilterChain], default: Option<&proto::FilterChain>) -> KnownChains {
        let built = self.chains.iter().zip(chains).chain(self.default.iter().zip(default));
        KnownChains(built.map(|(chain, proto)| (proto.encode_to_vec(), chain.clone())).collect())
    }

    /// The chain for a connection; `None` closes it.
    pub fn find(&self, info: &ConnectionInfo) -> Option<&Arc<FilterChain>> {
        let (local, remote) = (info.local_address.borrow(), info.remote_address.borrow());
        let (server_name, protocols) = (info.requested_server_name.borrow(), info.application_protocols.borrow());
        let subject = Subject {
            destination: &local,
            server_name: server_name.as_deref().unwrap_or_default(),
            transport_protocol: info.transport_protocol.get(),
            application_protocols: &protocols,
            direct_source: &info.direct_remote_address,
            source: &remote,
        };
        self.tree.find(&subject).and_then(|index| self.chains.get(index)).or(self.default.as_ref())
    }

    pub fn len(&self) -> usize {
        self.chains.len() + usize::from(self.default.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One chain without a transport for all connections.
    #[cfg(test)]
    pub fn of_terminal(terminal: Arc<dyn TerminalFilter>) -> Self {
        let chain = FilterChain {
            name: "test".into(),
            transport: Downstream::Raw,
            transport_connect_timeout: None,
            filters: Vec::new(),
            terminal,
            drain: DrainSource::default(),
            open: Arc::default(),
        };
        FilterChains { chains: Vec::new(), tree: Tree::default(), default: Some(Arc::new(chain)) }
    }
}
