//! The driver against a real server on loopback: both variants, verdicts, reconnects, and bad peers.

mod common;

use std::time::Duration;

use common::{BOTH, Client, PATIENCE, Server, Task, connector, options, run};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use xds_client::server::call::{self, Call};
use xds_client::server::{Store, serve_unix};
use xds_client::session::{Event, Request};
use xds_client::transport::BoxError;
use xds_client::transport::http2::{Connector, Http2Options, handshake};
use xds_client::{Rejected, Service, StreamEvent, Transport, TypeUrl, Update, Variant};
use xds_protos::Message;
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest};

fn cluster(name: &str) -> Cluster {
    Cluster { name: name.into(), ..Cluster::default() }
}

fn accept(_: &Update) -> Vec<Rejected> {
    Vec::new()
}

fn names(update: &Update) -> Vec<&str> {
    update.added.iter().map(|it| it.name.as_str()).collect()
}

/// How many requests of the log acknowledge a response.
fn acks(store: &Store) -> usize {
    store.log().iter().filter(|entry| entry.is_ack()).count()
}

#[test]
fn resources_come_change_and_go() {
    run(async {
        for variant in BOTH {
            let server = Server::start().await;
            server.store.set(TypeUrl::CLUSTER, "a", &cluster("a"));
            let mut client = Client::start(options(variant), server.port, accept);
            client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
            let first = client.update().await;
            assert_eq!((names(&first), first.full), (vec!["a"], variant == Variant::Sotw));
            assert_eq!(Cluster::decode(&*first.added[0].any.value).unwrap().name, "a");

            server.store.set(TypeUrl::CLUSTER, "b", &cluster("b"));
            let second = client.update().await;
            let expected = if variant == Variant::Sotw { vec!["a", "b"] } else { vec!["b"] };
            assert_eq!(names(&second), expected);

            server.store.remove_resource(TypeUrl::CLUSTER, "a");
            let third = client.update().await;
            match variant {
                Variant::Delta => assert_eq!((names(&third), &*third.removed), (vec![], &["a".to_owned()][..])),
                Variant::Sotw => assert_eq!((names(&third), third.full), (vec!["b"], true)),
            }
            server.store.logged(|log| log.iter().filter(|entry| entry.is_ack()).count() == 3).await;
        }
    });
}

#[test]
fn a_nack_names_each_resource_and_the_stream_goes_on() {
    run(async {
        for variant in BOTH {
            let server = Server::start().await;
            server.store.batch(|batch| {
                batch.set(TypeUrl::CLUSTER, "good", &cluster("good"));
                batch.set(TypeUrl::CLUSTER, "bad-1", &cluster("bad-1"));
                batch.set(TypeUrl::CLUSTER, "bad-2", &cluster("bad-2"));
            });
            let mut client = Client::start(options(variant), server.port, |update| {
                let bad = update.added.iter().filter(|it| it.name.starts_with("bad"));
                bad.map(|it| Rejected { name: it.name.clone(), reason: "no".into() }).collect()
            });
            client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
            client.update().await;
            let log = server.store.logged(|log| log.iter().any(|entry| entry.request.nack().is_some())).await;
            let nack = log.last().unwrap();
            assert_eq!(nack.request.nack(), Some("Error adding/updating cluster(s) bad-1: no, bad-2: no"));
            if let Request::Sotw(request) = &nack.request {
                assert_eq!(request.version_info, "", "no response was ever taken whole");
            }
            server.store.batch(|batch| {
                batch.remove_resource(TypeUrl::CLUSTER, "bad-1");
                batch.remove_resource(TypeUrl::CLUSTER, "bad-2");
            });
            client.update().await;
            server.store.logged(|log| log.last().is_some_and(|entry| entry.is_ack())).await;
        }
    });
}

#[test]
fn a_reconnect_tells_what_is_in_force() {
    run(async {
        for variant in BOTH {
            let mut server = Server::start().await;
            server.store.batch(|batch| {
                batch.set(TypeUrl::CLUSTER, "a", &cluster("a"));
                batch.set(TypeUrl::CLUSTER, "bad", &cluster("bad"));
            });
            let mut client = Client::start(options(variant), server.port, |update| {
                let bad = update.added.iter().filter(|it| it.name == "bad");
                bad.map(|it| Rejected { name: it.name.clone(), reason: "no".into() }).collect()
            });
            client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
            client.update().await;
            server.store.logged(|log| log.len() == 2).await;
            server.stop().await;
            client.stream_event(|event| matches!(event, StreamEvent::Disconnected { .. })).await;
            // What is asked for meanwhile goes with the first requests.
            client.subscriptions.subscribe(TypeUrl::SECRET, "default", Duration::ZERO);
            server.start_again().await;
            let log = server.store.logged(|log| log.iter().filter(|entry| entry.stream == 2).count() >= 2).await;
            let again: Vec<_> = log.iter().filter(|entry| entry.stream == 2).collect();
            assert_eq!(again[0].request.type_url(), TypeUrl::CLUSTER.as_str());
            assert_eq!(again[1].request.type_url(), TypeUrl::SECRET.as_str());
            match (&again[0].request, &again[1].request) {
                (Request::Delta(clusters), Request::Delta(secrets)) => {
                    assert!(clusters.node.is_some() && secrets.node.is_none());
                    assert_eq!(clusters.initial_resource_versions, [("a".to_owned(), "1".to_owned())].into());
                    assert_eq!(secrets.resource_names_subscribe, ["default"]);
                }
                (Request::Sotw(clusters), Request::Sotw(secrets)) => {
                    assert!(clusters.node.is_some() && secrets.node.is_none());
                    assert_eq!(clusters.response_nonce, "");
                    assert_eq!(secrets.resource_names, ["default"]);
                }
                _ => panic!("two variants on one stream"),
            }
        }
    });
}

#[test]
fn the_server_may_be_absent_at_the_start() {
    run(async {
        let mut server = Server::start().await;
        server.stop().await;
        let mut client = Client::start(options(Variant::Delta), server.port, accept);
        client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::from_millis(30));
        let StreamEvent::Disconnected { code, .. } = client.stream_event(|_| true).await else { panic!() };
        assert_eq!(code, 14);
        loop {
            // The clock of initial_fetch_timeout runs without a connection: a proxy must get ready without its server.
            if let Event::FetchTimedOut(type_url, names) = client.heard.recv().await.unwrap() {
                assert_eq!((type_url, names), (TypeUrl::CLUSTER, vec!["*".to_owned()]));
                break;
            }
        }
        server.store.set(TypeUrl::CLUSTER, "late", &cluster("late"));
        server.start_again().await;
        assert_eq!(names(&client.update().await), ["late"]);
    });
}

#[test]
fn one_type_on_a_service_of_its_own() {
    run(async {
        for variant in BOTH {
            let server = Server::start().await;
            server.store.set(TypeUrl::CLUSTER, "a", &cluster("a"));
            let mut options = options(variant);
            options.service = Service::Single(TypeUrl::CLUSTER);
            let mut client = Client::start(options, server.port, accept);
            client.subscriptions.subscribe(TypeUrl::CLUSTER, "a", Duration::ZERO);
            assert_eq!(names(&client.update().await), ["a"]);
            server.store.logged(|log| log.last().is_some_and(|entry| entry.is_ack())).await;
        }
    });
}

#[test]
fn a_type_without_a_service_fails_each_attempt() {
    run(async {
        let server = Server::start().await;
        let mut options = options(Variant::Delta);
        options.service = Service::Single("type.googleapis.com/istio.workload.Workload".into());
        let mut client = Client::start(options, server.port, accept);
        let StreamEvent::Disconnected { code, .. } = client.stream_event(|_| true).await else { panic!() };
        assert_eq!(code, 12);
    });
}

#[test]
fn dropping_the_client_ends_the_stream() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = Client::start(options(Variant::Delta), port, accept);
        client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        let mut connection = call::handshake(listener.accept().await.unwrap().0).await.unwrap();
        let (request, respond) = connection.accept().await.unwrap().unwrap();
        let mut call = Call::accept(request, respond).unwrap();
        let server = async {
            while let Some(next) = connection.accept().await {
                next.unwrap();
            }
        };
        let peer = async {
            call.message::<DeltaDiscoveryRequest>().await.unwrap().unwrap();
            drop(client);
            assert!(call.message::<DeltaDiscoveryRequest>().await.is_err(), "the call is reset");
        };
        tokio::join!(server, peer);
    });
}

/// A peer that accepts one call a connection, hands it to the script, and goes on to the next connection.
async fn scripted<F: Future>(listener: &TcpListener, script: impl FnOnce(Call) -> F) -> F::Output {
    let mut connection = call::handshake(listener.accept().await.unwrap().0).await.unwrap();
    let (request, respond) = connection.accept().await.unwrap().unwrap();
    let script = script(Call::accept(request, respond).unwrap());
    let mut script = std::pin::pin!(script);
    loop {
        tokio::select! {
            output = &mut script => {
                // Let what was sent leave before the connection goes.
                connection.graceful_shutdown();
                let _ = tokio::time::timeout(Duration::from_millis(200), async { while connection.accept().await.is_some() {} }).await;
                return output;
            }
            _ = connection.accept() => {}
        }
    }
}

#[test]
fn garbage_ends_the_stream_and_not_the_client() {
    let ten_mebibytes: Vec<u8> = {
        let mut rng = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| rng.u8(..)).take(10 << 20).collect()
    };
    let good = DeltaDiscoveryResponse { type_url: TypeUrl::CLUSTER.as_str().into(), ..Default::default() };
    let mut truncated = good.encode_to_vec();
    truncated.pop();
    let frames: [Vec<u8>; 4] = [ten_mebibytes, truncated, vec![0xff; 64], vec![0x12]];
    run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::start(options(Variant::Delta), listener.local_addr().unwrap().port(), accept);
        client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        for frame in frames {
            scripted(&listener, async |mut call| {
                call.message::<DeltaDiscoveryRequest>().await.unwrap().unwrap();
                call.send_bytes(&frame).unwrap();
                assert!(!matches!(call.message::<DeltaDiscoveryRequest>().await, Ok(Some(_))), "nothing to answer");
            })
            .await;
            let ended = client.stream_event(|event| matches!(event, StreamEvent::Disconnected { .. })).await;
            let StreamEvent::Disconnected { code, reason, .. } = ended else { panic!() };
            assert_eq!(code, 13, "{reason}");
        }
        // And one that is cut inside the frame.
        scripted(&listener, async |mut call| {
            call.message::<DeltaDiscoveryRequest>().await.unwrap().unwrap();
            call.send_raw(bytes::Bytes::from_static(&[0, 0, 0, 1, 0, 1, 2, 3])).unwrap();
            call.finish(0, "").unwrap();
        })
        .await;
        client.stream_event(|event| matches!(event, StreamEvent::Disconnected { .. })).await;
        scripted(&listener, async |mut call| {
            let first = call.message::<DeltaDiscoveryRequest>().await.unwrap().unwrap();
            assert!(first.node.is_some());
            call.send(&DeltaDiscoveryResponse { nonce: "1".into(), ..good.clone() }).unwrap();
            assert_eq!(call.message::<DeltaDiscoveryRequest>().await.unwrap().unwrap().response_nonce, "1");
        })
        .await;
    });
}

#[test]
fn a_response_of_forty_mebibytes_is_taken() {
    run(async {
        let server = Server::start().await;
        let big = vec![b'x'; 40 << 20];
        let body = Cluster { name: "big".into(), alt_stat_name: String::from_utf8(big).unwrap(), ..Cluster::default() };
        server.store.set(TypeUrl::CLUSTER, "big", &body);
        let mut client = Client::start(options(Variant::Delta), server.port, accept);
        client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        assert!(client.update().await.added[0].any.value.len() > 40 << 20);
        server.store.logged(|log| log.last().is_some_and(|entry| entry.is_ack())).await;
        assert_eq!(acks(&server.store), 1);
    });
}

#[test]
fn a_status_is_told_and_the_metadata_goes_with_each_call() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = options(Variant::Sotw);
        options.initial_metadata.insert("x-token", "one".parse().unwrap());
        options.origin = "http://istiod:15010".parse().unwrap();
        let mut client = Client::start(options, listener.local_addr().unwrap().port(), accept);
        client.subscriptions.wildcard(TypeUrl::LISTENER, Duration::ZERO);
        for _ in 0..2 {
            scripted(&listener, async |mut call| {
                assert_eq!(call.headers()["x-token"], "one");
                assert!(call.path().ends_with("AggregatedDiscoveryService/StreamAggregatedResources"));
                call.message::<DiscoveryRequest>().await.unwrap().unwrap();
                call.finish(8, "too many").unwrap();
            })
            .await;
            let ended = client.stream_event(|event| matches!(event, StreamEvent::Disconnected { .. })).await;
            let StreamEvent::Disconnected { code, reason, retry_in } = ended else { panic!() };
            assert_eq!((code, &*reason), (8, "too many"));
            assert!(retry_in < PATIENCE);
        }
    });
}

#[test]
fn a_unix_socket_and_an_unknown_method() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sds");
        let store = Store::new();
        let listener = UnixListener::bind(&path).unwrap();
        let _server = Task(tokio::task::spawn_local({
            let store = store.clone();
            async move { serve_unix(listener, store).await.unwrap() }
        }));
        let open = path.clone();
        let transport = Connector::new(Http2Options::default(), move || UnixStream::connect(open.clone()));
        store.set(TypeUrl::SECRET, "default", &cluster("default"));
        let mut options = options(Variant::Sotw);
        options.service = Service::Single(TypeUrl::SECRET);
        let mut client = Client::start_over(options, transport, accept);
        client.subscriptions.subscribe(TypeUrl::SECRET, "default", Duration::ZERO);
        assert_eq!(names(&client.update().await), ["default"]);

        let mut connection =
            handshake(UnixStream::connect(&path).await.unwrap(), &Http2Options::default()).await.unwrap();
        let request = http::Request::post("http://x/no.Such/Method").body(tonic::body::Body::empty()).unwrap();
        let response = tower::Service::call(&mut connection, request).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12");
    });
}

#[test]
fn names_that_do_not_exist_yet_are_told_gone_and_come_later() {
    run(async {
        let server = Server::start().await;
        let mut client = Client::start(options(Variant::Delta), server.port, accept);
        client.subscriptions.subscribe(TypeUrl::SECRET, "late", Duration::ZERO);
        assert_eq!(client.update().await.removed, ["late"]);
        server.store.set(TypeUrl::SECRET, "late", &cluster("late"));
        assert_eq!(names(&client.update().await), ["late"]);
        client.subscriptions.unsubscribe(TypeUrl::SECRET, "late");
        server.store.logged(|log| log.len() == 4).await;
        server.store.set(TypeUrl::SECRET, "late", &cluster("later"));
        client.subscriptions.subscribe(TypeUrl::SECRET, "late", Duration::ZERO);
        assert_eq!(names(&client.update().await), ["late"], "sent again to whoever asks again");
    });
}

#[test]
fn keepalive_finds_a_dead_peer() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let http2 = Http2Options {
            keepalive_interval: Some(Duration::from_millis(50)),
            keepalive_timeout: Duration::from_millis(50),
            ..Http2Options::default()
        };
        let transport = Connector::new(http2, move || TcpStream::connect(("127.0.0.1", port)));
        let mut client = Client::start_over(options(Variant::Delta), transport, accept);
        client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        let mut connection = call::handshake(listener.accept().await.unwrap().0).await.unwrap();
        let (request, respond) = connection.accept().await.unwrap().unwrap();
        let _call = Call::accept(request, respond).unwrap();
        // From here on nobody reads what the client sends.
        client.stream_event(|event| matches!(event, StreamEvent::Disconnected { .. })).await;
    });
}

/// A transport with a token that is read anew for each call, and cannot be read the first time.
struct WithToken<T> {
    inner: T,
    reads: std::cell::Cell<u32>,
}

impl<T: Transport> Transport for WithToken<T> {
    type Body = T::Body;
    type Service = T::Service;

    async fn connect(&self) -> Result<T::Service, BoxError> {
        self.inner.connect().await
    }

    fn metadata(&self) -> Result<http::HeaderMap, BoxError> {
        self.reads.set(self.reads.get() + 1);
        match self.reads.get() {
            1 => Err("no token yet".into()),
            n => Ok([(http::header::AUTHORIZATION, format!("Bearer {n}").parse().unwrap())].into_iter().collect()),
        }
    }
}

#[test]
fn metadata_is_read_anew_for_each_call() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = connector(listener.local_addr().unwrap().port());
        let transport = WithToken { inner, reads: std::cell::Cell::new(0) };
        let mut client = Client::start_over(options(Variant::Delta), transport, accept);
        client.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        let StreamEvent::Disconnected { code, reason, .. } = client.stream_event(|_| true).await else { panic!() };
        assert_eq!((code, &*reason), (16, "no token yet"));
        for token in ["Bearer 2", "Bearer 3"] {
            scripted(&listener, async |call| {
                assert_eq!(call.headers()["authorization"], token);
                call.finish(14, "going away").unwrap();
            })
            .await;
            client.stream_event(|event| matches!(event, StreamEvent::Disconnected { .. })).await;
        }
    });
}
