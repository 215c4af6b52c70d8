//! A process for the admin interface to look at: two clusters, two listeners, one of everything else.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prost::Name;
use xds_protos::Message;
use xds_protos::envoy::admin::v3 as pb;
use xds_protos::envoy::config::bootstrap::v3::Bootstrap;
use xds_protos::envoy::config::cluster::v3 as cluster;
use xds_protos::envoy::config::core::v3::{DataSource, Node, data_source};
use xds_protos::envoy::config::listener::v3 as listener;
use xds_protos::envoy::config::route::v3 as route;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as tls;

use super::*;
use crate::cluster::Thresholds;
use crate::endpoint::{HealthFlags, Host, Locality};
use crate::runtime::{Entries, Entry, NoAdminLayer};
use crate::stats::Stats;

#[derive(Default)]
pub struct Fake {
    /// What was asked for, in order.
    pub calls: Mutex<Vec<String>>,
    pub state: Mutex<pb::server_info::State>,
    pub has_admin_layer: bool,
    pub dynamic: bool,
    pub on_quit: Option<tokio::sync::mpsc::UnboundedSender<()>>,
}

impl Fake {
    pub fn context(self) -> (AdminContext, Rc<Self>) {
        let fake = Rc::new(self);
        let cx = AdminContext {
            stats: Stats::new(1),
            server: fake.clone(),
            clusters: fake.clone(),
            listeners: fake.clone(),
            certificates: fake.clone(),
            runtime: fake.clone(),
            config: fake.clone(),
            log: fake.clone(),
            allow_paths: Vec::new(),
        };
        (cx, fake)
    }

    fn call(&self, call: impl Into<String>) {
        self.calls.lock().push(call.into());
    }
}

impl Server for Fake {
    fn state(&self) -> pb::server_info::State {
        *self.state.lock()
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(33_700)
    }

    fn version(&self) -> String {
        "sha/1.40.0/Clean/RELEASE/x".to_owned()
    }

    fn command_line_options(&self) -> pb::CommandLineOptions {
        pb::CommandLineOptions { base_id: 7, concurrency: 2, ..Default::default() }
    }

    fn node(&self) -> Node {
        Node { id: "node-1".to_owned(), ..Default::default() }
    }

    fn fail_health_check(&self, fail: bool) {
        self.call(format!("fail health check {fail}"));
        *self.state.lock() = if fail { pb::server_info::State::Draining } else { pb::server_info::State::Live };
    }

    fn drain_listeners(&self, how: DrainListeners) {
        self.call(format!("{how:?}"));
    }

    fn quit(&self) {
        self.call("quit");
        if let Some(on_quit) = &self.on_quit {
            on_quit.send(()).unwrap();
        }
    }

    fn reopen_logs(&self) {
        self.call("reopen logs");
    }

    fn refresh_stats(&self) {
        self.call("refresh stats");
    }

    fn unready_targets(&self) -> Vec<(String, Vec<String>)> {
        vec![
            ("listener l1".to_owned(), vec!["RDS r".to_owned()]),
            ("cluster c1".to_owned(), vec!["EDS c1".to_owned(), "SDS s".to_owned()]),
        ]
    }
}

impl Clusters for Fake {
    fn clusters(&self) -> Vec<Cluster> {
        let mut host = Host::new(Address::Ip("127.0.0.1:8080".parse().unwrap()), "h.example".into(), 3);
        host.locality = Arc::new(Locality { region: "r".into(), zone: "z".into(), sub_zone: "".into() });
        host.priority = 1;
        host.set_health(HealthFlags(HealthFlags::FAILED_ACTIVE_HC | HealthFlags::FAILED_OUTLIER_CHECK));
        host.stats.cx_total.store(5, Relaxed);
        host.stats.cx_active.store(2, Relaxed);
        let pipe = Host::new(Address::Pipe("/run/x.sock".into()), "".into(), 1);
        let status = |host, success_rate| HostStatus { host, success_rate, local_origin_success_rate: -1.0 };
        let limits = Thresholds { max_connections: 100, ..Default::default() };
        vec![
            Cluster {
                name: "b".to_owned(),
                observability_name: "b;".to_owned(),
                added_via_api: true,
                eds_service_name: "svc".to_owned(),
                default_priority: limits,
                high_priority: Thresholds::default(),
                outlier: Some(Outlier {
                    success_rate_average: -1.0,
                    success_rate_ejection_threshold: 87.5,
                    local_origin_success_rate_average: -1.0,
                    local_origin_success_rate_ejection_threshold: -1.0,
                }),
                overprovisioning_factor: 140,
                hosts: vec![status(Arc::new(host), 99.5)],
            },
            Cluster {
                name: "a".to_owned(),
                observability_name: "a".to_owned(),
                added_via_api: false,
                eds_service_name: String::new(),
                default_priority: Thresholds::default(),
                high_priority: Thresholds::default(),
                outlier: None,
                overprovisioning_factor: 140,
                hosts: vec![status(Arc::new(pipe), -1.0)],
            },
        ]
    }
}

use crate::net::Address;

impl Listeners for Fake {
    fn listeners(&self) -> Vec<Listener> {
        let ip = |text: &str| Address::Ip(text.parse().unwrap());
        vec![
            Listener { name: "ingress".to_owned(), addresses: vec![ip("127.0.0.1:80"), ip("[::1]:80")] },
            Listener { name: "pipe".to_owned(), addresses: vec![Address::Pipe("/run/l.sock".into())] },
        ]
    }
}

impl Certificates for Fake {
    fn certificates(&self) -> Vec<pb::Certificate> {
        let details = pb::CertificateDetails {
            path: "<inline>".to_owned(),
            serial_number: "01".to_owned(),
            days_until_expiration: 89,
            ..Default::default()
        };
        vec![pb::Certificate { ca_cert: Vec::new(), cert_chain: vec![details] }]
    }
}

impl Runtime for Fake {
    fn layers(&self) -> Vec<(String, Entries)> {
        let layer = |key: &str, value: &str| Entries::from([(key.to_owned(), Entry::parse(value))]);
        vec![("static".to_owned(), layer("a.b", "1")), ("admin".to_owned(), layer("c.d", "x\"x"))]
    }

    fn modify(&self, values: &[(String, String)]) -> Result<(), NoAdminLayer> {
        self.call(format!("runtime {values:?}"));
        if self.has_admin_layer { Ok(()) } else { Err(NoAdminLayer) }
    }
}

fn resource<M: Message + Name>(name: &str, message: &M) -> Resource {
    let received = Received { type_url: M::type_url().into(), value: message.encode_to_vec().into() };
    Resource {
        name: name.into(),
        received: Some(received),
        version_info: "v1".to_owned(),
        last_updated: UNIX_EPOCH + Duration::from_millis(1_700_000_000_250),
        error: None,
        client_status: pb::ClientResourceStatus::Acked,
    }
}

impl Config for Fake {
    fn bootstrap(&self) -> Resource {
        let node = Some(Node { id: "node-1".to_owned(), cluster: "cl".to_owned(), ..Default::default() });
        resource("", &Bootstrap { node, ..Default::default() })
    }

    fn resources(&self, kind: ResourceKind) -> Resources {
        let mut all = Resources::default();
        match kind {
            ResourceKind::Cluster => {
                let of = |name: &str| {
                    let connect_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
                    resource(name, &cluster::Cluster { name: name.to_owned(), connect_timeout, ..Default::default() })
                };
                all.statics = vec![of("c0"), of("c1")];
                if self.dynamic {
                    all.version_info = "v1".to_owned();
                    all.active = vec![of("d0")];
                }
            }
            ResourceKind::Listener => {
                let of =
                    |name: &str| resource(name, &listener::Listener { name: name.to_owned(), ..Default::default() });
                all.statics = vec![of("ingress")];
                if self.dynamic {
                    let error = UpdateFailure {
                        failed_configuration: of("l0").received,
                        last_update_attempt: SystemTime::UNIX_EPOCH,
                        details: "no".to_owned(),
                        version_info: "v2".to_owned(),
                    };
                    all.active = vec![Resource { error: Some(error), ..of("l0") }];
                    all.draining = vec![of("l0")];
                }
            }
            ResourceKind::Route => {
                let message = route::RouteConfiguration { name: "local".to_owned(), ..Default::default() };
                all.statics = vec![resource("local", &message)];
            }
            ResourceKind::Secret => {
                let inline = |text: &str| {
                    let specifier = data_source::Specifier::InlineString(text.to_owned());
                    Some(DataSource { specifier: Some(specifier), ..Default::default() })
                };
                let certificate = tls::TlsCertificate {
                    certificate_chain: inline("PUBLIC"),
                    private_key: inline("PRIVATE"),
                    ..Default::default()
                };
                let secret =
                    tls::Secret { name: "s".to_owned(), r#type: Some(tls::secret::Type::TlsCertificate(certificate)) };
                all.statics = vec![resource("s", &secret)];
            }
            ResourceKind::ScopedRoute | ResourceKind::ExtensionConfig => {}
        }
        all
    }

    fn ignored(&self) -> Vec<Ignored> {
        let ignored = |message: &str, field: &str, count| Ignored {
            message: message.to_owned(),
            field: field.to_owned(),
            count,
            reason: "sizes a table".to_owned(),
        };
        vec![ignored("m.B", "f", 1), ignored("m.A", "g", 2)]
    }
}

impl Log for Fake {
    fn loggers(&self) -> Vec<(String, String)> {
        vec![("admin".to_owned(), "info".to_owned()), ("http".to_owned(), "debug".to_owned())]
    }

    fn levels(&self) -> Vec<&'static str> {
        vec!["trace", "debug", "info", "off"]
    }

    fn set_all(&self, level: &str) {
        self.call(format!("all loggers {level}"));
    }

    fn set(&self, logger: &str, level: &str) {
        self.call(format!("logger {logger} {level}"));
    }
}
