//! HTTP/2 connections with several streams at a time on each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;

use super::{Load, Tally, run};
use crate::load::machine::Cores;
use crate::load::upstream::BODY;

pub fn load(address: SocketAddr, connections: usize, streams: usize, time: Duration, cores: Cores) -> Load {
    let until = Instant::now() + time;
    run(cores, time, (0..connections).map(|_| connection(address, streams, until)), until)
}

async fn connection(address: SocketAddr, streams: usize, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let Ok(stream) = TcpStream::connect(address).await else {
        tally.failed += 1;
        return tally;
    };
    let _ = stream.set_nodelay(true);
    let handshake = h2::client::Builder::new().initial_connection_window_size(1 << 24).handshake(stream).await;
    let Ok((client, connection)) = handshake else {
        tally.failed += 1;
        return tally;
    };
    let driver = tokio::task::spawn_local(connection);
    let running: Vec<_> =
        (0..streams).map(|_| tokio::task::spawn_local(requests(client.clone(), address, until))).collect();
    drop(client);
    for one in running {
        let Ok(one) = one.await else { continue };
        tally.failed += one.failed;
        tally.micros.extend(one.micros);
    }
    driver.abort();
    tally
}

async fn requests(mut client: SendRequest<Bytes>, address: SocketAddr, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let uri = format!("http://{address}/bench");
    while Instant::now() < until {
        let since = Instant::now();
        match exchange(&mut client, &uri).await {
            Ok(true) => tally.record(since),
            Ok(false) => tally.failed += 1,
            Err(_) => {
                tally.failed += 1;
                break;
            }
        }
    }
    tally
}

/// Whether the answer was a 200 with the whole body.
async fn exchange(client: &mut SendRequest<Bytes>, uri: &str) -> Result<bool, h2::Error> {
    std::future::poll_fn(|cx| client.poll_ready(cx)).await?;
    let request = http::Request::get(uri).header("user-agent", "bench").body(()).expect("a valid request");
    let (response, _) = client.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut received = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        received += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(head.status == http::StatusCode::OK && received == BODY.len())
}
