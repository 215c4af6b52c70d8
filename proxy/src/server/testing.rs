//! A process in miniature for tests: real workers and sockets on loopback, configuration as YAML.

use std::rc::Rc;
use std::sync::Arc;

use prost::Message;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;
use xds_protos::{encode, text};

use super::listener_manager::AddError;
use super::worker::Event;
use super::{Server, ServerOptions};
use crate::config::{BuildCx, Path, Reject};
use crate::listener::Listener;
use crate::net::Address;

/// A protobuf message from YAML.
pub fn proto<M: Message + Default + prost::Name>(yaml: &str) -> M {
    let tree = text::parse(yaml, text::Format::Yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    let name = format!("{}.{}", M::PACKAGE, M::NAME);
    let (bytes, _) = encode::to_wire(tree.root(), &name, &encode::Options::default())
        .unwrap_or_else(|e| panic!("{}\n{yaml}", e.iter().map(|e| e.to_string()).collect::<Vec<_>>().join("\n")));
    M::decode(&*bytes).unwrap()
}

pub fn listener(cx: &BuildCx, yaml: &str) -> Result<Arc<Listener>, Reject> {
    Listener::build(&proto(yaml), &Path::root(""), cx)
}

pub fn options(concurrency: usize) -> ServerOptions {
    ServerOptions { concurrency, ..ServerOptions::default() }
}

/// A server whose workers run; ends them on drop.
pub struct Running {
    pub server: Rc<Server>,
    pub events: UnboundedReceiver<Event>,
}

impl Running {
    /// Starts workers that serve these listeners.
    pub fn start(options: ServerOptions, listeners: &[&str]) -> Self {
        Self::start_with(BuildCx::new(options), listeners)
    }

    pub fn start_with(cx: BuildCx, listeners: &[&str]) -> Self {
        let server = Server::new(cx);
        for yaml in listeners {
            server.listeners.add(listener(&server.cx, yaml).unwrap_or_else(|e| panic!("{e}"))).unwrap();
        }
        let events = server.listeners.start().unwrap();
        Running { server, events }
    }

    pub fn add(&self, yaml: &str) -> Result<(), AddError> {
        self.server.listeners.add(listener(&self.server.cx, yaml).unwrap_or_else(|e| panic!("{e}")))
    }

    /// Where a listener is bound.
    pub fn address(&self, name: &str) -> std::net::SocketAddr {
        match self.addresses(name).first() {
            Some(Address::Ip(address)) => *address,
            other => panic!("{name} is at {other:?}"),
        }
    }

    pub fn addresses(&self, name: &str) -> Vec<Address> {
        let statuses = self.server.listeners.statuses();
        statuses.into_iter().find(|status| *status.name == *name).unwrap_or_else(|| panic!("no {name}")).addresses
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.listeners.exit();
    }
}

/// Runs a test on a control thread.
pub fn on_control<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Waits until something is true that a worker is about to do.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..500 {
        if check() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
