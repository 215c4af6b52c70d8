//! Both sides together: a good client, the downstream codec, the upstream connection, a good server.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::DuplexStream;
use tokio::task::spawn_local;

use super::client::{H2Client, connect};
use super::testing::{
    Served, Service, client_settings, drain_body, good_client, pipe, post, run, serve_through, server_settings,
};
use crate::http::{Body, Reply, ResponseHead};

/// A proxy without anything between its codecs; 502 for what fails before the head.
async fn proxy(size: usize) -> (Served, DuplexStream, H2Client, DuplexStream) {
    let (io, upstream) = pipe(size);
    let (client, driver) = connect(io, Rc::new(client_settings())).await.unwrap();
    drop(spawn_local(driver));
    let to = client.clone();
    let service = Service::new(move |request| {
        let exchange = to.start(&request.head, request.body);
        async move {
            let head = async {
                let mut exchange = exchange?;
                let head = poll_fn(|cx| exchange.poll_head(cx)).await?;
                Ok::<_, crate::http::ExchangeError>((head, exchange))
            };
            let (head, body) = match head.await {
                Ok((head, exchange)) => (head, Body::Stream(Box::new(exchange))),
                Err(_) => (ResponseHead::new(http::StatusCode::BAD_GATEWAY), Body::Empty),
            };
            Reply { head, body, close_connection: false, stream: Rc::new(()) }
        }
    });
    let (served, downstream) = serve_through(service, server_settings(), size);
    (served, downstream, client, upstream)
}

fn status(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(value))])
}

/// A server that echoes each DATA frame at once and ends with trailers.
fn echo(io: DuplexStream) {
    drop(spawn_local(async move {
        let mut connection = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            drop(spawn_local(async move {
                let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    send.reserve_capacity(data.len());
                    let mut left = data;
                    while !left.is_empty() {
                        let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                        send.send_data(left.split_to(room.min(left.len())), false).unwrap();
                    }
                }
                let _ = send.send_trailers(status("0"));
            }));
        }
    }));
}

#[test]
fn streams_of_messages_go_back_and_forth() {
    run(async {
        let (_served, downstream, _client, upstream) = proxy(1 << 20).await;
        echo(upstream);
        let mut client = good_client(downstream, &h2::client::Builder::new()).await;
        let (response, mut send) = client.send_request(post("/pkg.Service/Bidi"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for n in 0..100u32 {
            let message = Bytes::from(vec![n as u8; 1 + n as usize * 37]);
            send.send_data(message.clone(), false).unwrap();
            let mut got = Vec::new();
            while got.len() < message.len() {
                let data = body.data().await.unwrap().unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                got.extend_from_slice(&data);
            }
            assert_eq!(got, message);
        }
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(drain_body(&mut body).await.unwrap(), (Vec::new(), Some(status("0"))));
    });
}

#[test]
fn many_large_streams_share_small_pipes() {
    run(async {
        let (_served, downstream, client, upstream) = proxy(10_000).await;
        echo(upstream);
        let mut down = good_client(downstream, &h2::client::Builder::new()).await;
        let done = Rc::new(Cell::new(0));
        let mut tasks = Vec::new();
        for n in 0..30u8 {
            let (response, mut send) = down.send_request(post("/"), false).unwrap();
            let count = Rc::clone(&done);
            drop(spawn_local(async move {
                let mut left = Bytes::from(vec![n; 300_000]);
                while !left.is_empty() {
                    send.reserve_capacity(left.len().min(20_000));
                    let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                    let piece = left.split_to(room.min(left.len()));
                    send.send_data(piece, left.is_empty()).unwrap();
                }
            }));
            tasks.push(spawn_local(async move {
                let mut response = response.await.unwrap();
                let (data, trailers) = drain_body(response.body_mut()).await.unwrap();
                assert!(data.len() == 300_000 && data.iter().all(|b| *b == n));
                assert_eq!(trailers, Some(status("0")));
                count.set(count.get() + 1);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(done.get(), 30);
        assert_eq!(client.active(), 0);
    });
}

#[test]
fn a_cancelled_call_is_cancelled_upstream() {
    run(async {
        let (_served, downstream, client, upstream) = proxy(1 << 20).await;
        let seen = spawn_local(async move {
            let mut connection = h2::server::handshake(upstream).await.unwrap();
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            drop(spawn_local(async move { while connection.accept().await.is_some() {} }));
            poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()
        });
        let mut down = good_client(downstream, &h2::client::Builder::new()).await;
        let (response, send) = down.send_request(post("/"), false).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(client.active(), 1);
        drop((response, send));
        assert_eq!(seen.await.unwrap(), h2::Reason::INTERNAL_ERROR, "as Envoy");
        assert_eq!(client.active(), 0);
    });
}

#[test]
fn a_lost_upstream_resets_what_has_begun_and_answers_what_has_not() {
    run(async {
        let (_served, downstream, _client, upstream) = proxy(1 << 20).await;
        drop(spawn_local(async move {
            let mut connection = h2::server::handshake(upstream).await.unwrap();
            let (_one, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"begun"), false).unwrap();
            let _two = connection.accept().await.unwrap().unwrap();
            // Long enough for what was written to leave.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.accept()).await;
        }));
        let mut down = good_client(downstream, &h2::client::Builder::new()).await;
        let (one, _) = down.send_request(post("/1"), true).unwrap();
        let (two, _) = down.send_request(post("/2"), true).unwrap();
        let mut one = one.await.unwrap();
        assert_eq!(two.await.unwrap().status(), 502);
        let error = drain_body(one.body_mut()).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    });
}
