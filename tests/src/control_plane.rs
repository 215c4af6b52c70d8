//! A management server for tests, on a thread of its own, and resources as YAML.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use xds_client::server::{Entry, Store, serve_tcp, serve_unix};
use xds_client::{Any, TypeUrl};
use xds_protos::{encode, text};

use crate::{PATIENCE, wait_for};

/// Serves a [`Store`] over ADS. Its port stays the same over restarts.
pub struct ControlPlane {
    pub store: Store,
    pub port: u16,
    /// Instead of the port.
    socket: Option<PathBuf>,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl ControlPlane {
    pub fn start() -> ControlPlane {
        let server = ControlPlane::absent();
        server.serve();
        server
    }

    /// One that nobody answers for yet.
    pub fn absent() -> ControlPlane {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
        ControlPlane { store: Store::new(), port, socket: None, running: Mutex::default() }
    }

    /// One on a unix socket.
    pub fn on_socket(path: &Path) -> ControlPlane {
        let server =
            ControlPlane { store: Store::new(), port: 0, socket: Some(path.to_owned()), running: Mutex::default() };
        server.serve();
        server
    }

    /// Cuts the connections there are, and serves new ones.
    pub fn serve(&self) {
        self.stop();
        let (store, port, path) = (self.store.clone(), self.port, self.socket.clone());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, async move {
                if let Some(path) = path {
                    let _ = std::fs::remove_file(&path);
                    let listener = tokio::net::UnixListener::bind(path).expect("the path is free");
                    ready.send(()).expect("somebody waits");
                    tokio::select! {
                        ended = serve_unix(listener, store) => panic!("the control plane ended: {ended:?}"),
                        _ = stopped => return,
                    }
                }
                let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
                socket.set_reuseaddr(true).expect("an option");
                socket.bind(([127, 0, 0, 1], port).into()).expect("the port is free");
                let listener = socket.listen(16).expect("listening");
                ready.send(()).expect("somebody waits");
                tokio::select! {
                    ended = serve_tcp(listener, store) => panic!("the control plane ended: {ended:?}"),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("the control plane listens");
        *self.running.lock().expect("nobody panicked") = Some((stop, thread));
    }

    /// Cuts the connections there are.
    pub fn stop(&self) {
        if let Some((stop, thread)) = self.running.lock().expect("nobody panicked").take() {
            drop(stop);
            thread.join().expect("ended well");
        }
    }

    /// Adds or replaces resources, each a YAML document, and pushes them together.
    pub fn set(&self, resources: &[(TypeUrl, &str)]) {
        let encoded: Vec<_> = resources.iter().map(|(url, yaml)| (url.clone(), named(url, yaml))).collect();
        self.store.batch(|batch| {
            for (url, (name, bytes)) in encoded {
                batch.set_resource(url, &name, bytes);
            }
        });
    }

    pub fn remove(&self, type_url: TypeUrl, name: &str) {
        self.store.remove_resource(type_url, name);
    }

    /// Pushes bytes as a resource of a type: `any_type` is what the Any says, if not the same.
    pub fn set_bytes(&self, type_url: TypeUrl, name: &str, any_type: Option<&str>, value: Vec<u8>) {
        let any_type = any_type.unwrap_or(type_url.as_str()).to_owned();
        let any = Any { type_url: any_type, value: value.into() };
        self.store.batch(|batch| batch.set_any(type_url, name, any));
    }

    /// The verdict on the next response of a type, after the first `known` entries of the log.
    pub fn verdict(&self, type_url: &TypeUrl, known: usize) -> Option<String> {
        let verdict = |log: &[Entry]| {
            let answer = log
                .iter()
                .skip(known)
                .map(|entry| &entry.request)
                .find(|request| request.type_url() == type_url.as_str() && !request.response_nonce().is_empty());
            answer.map(|request| request.nack().map(str::to_owned))
        };
        verdict(&self.wait("a verdict", |log| verdict(log).is_some())).flatten()
    }

    /// What clients said, once the condition holds.
    pub fn wait(&self, what: &str, condition: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        let log = wait_for(PATIENCE, || Some(self.store.log()).filter(|log| condition(log)));
        log.unwrap_or_else(|| panic!("never: {what}; got {} requests", self.store.log().len()))
    }

    /// Pushes one resource and waits for the verdict on it: the reason of a NACK, or none for an ACK. Earlier pushes of its
    /// type must have been answered.
    pub fn push(&self, type_url: TypeUrl, yaml: &str) -> Option<String> {
        let known = self.store.log().len();
        self.set(&[(type_url.clone(), yaml)]);
        self.verdict(&type_url, known)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The name and the encoding of a resource.
pub fn named(type_url: &TypeUrl, yaml: &str) -> (String, Vec<u8>) {
    let tree = text::parse(yaml, text::Format::Yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    let options = encode::Options::default();
    let encoded = encode::to_wire(tree.root(), type_url.message_name(), &options);
    let (bytes, _) = encoded.unwrap_or_else(|problems| panic!("{}\n{yaml}", problems[0]));
    let text::Value::Object(object) = tree.root().value() else { panic!("no object: {yaml}") };
    let name = object.get("name").or_else(|| object.get("cluster_name")).and_then(|name| name.as_str());
    (name.unwrap_or_else(|| panic!("no name: {yaml}")).to_owned(), bytes)
}

/// A bootstrap whose clusters and listeners come from the control plane at `port`, by delta or state of the world.
pub fn bootstrap(port: u16, delta: bool) -> String {
    let ads = "{ ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3 }";
    bootstrap_with(port, delta, ads, ads)
}

/// The same with sources of clusters and listeners. More static clusters may follow it.
pub fn bootstrap_with(port: u16, delta: bool, cds: &str, lds: &str) -> String {
    let kind = if delta { "DELTA_GRPC" } else { "GRPC" };
    format!(
        r#"
node: {{ id: sidecar~10.0.0.1~a.b~b.svc.cluster.local, cluster: a.b }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
dynamic_resources:
  ads_config:
    api_type: {kind}
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [ {{ envoy_grpc: {{ cluster_name: xds }} }} ]
  cds_config: {cds}
  lds_config: {lds}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: xds
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }} ] }} ]
"#
    )
}
