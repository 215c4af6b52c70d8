//! A new TLS connection for each request, nothing resumed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http1::read_answer;
use super::{Load, Tally, run};
use crate::load::identities::SERVER_NAME;
use crate::load::machine::Cores;

const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nhost: bench.test\r\nconnection: close\r\n\r\n";

pub fn load(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    loops: usize,
    time: Duration,
    cores: Cores,
) -> Load {
    let until = Instant::now() + time;
    run(cores, time, (0..loops).map(|_| one(address, TlsConnector::from(Arc::clone(config)), until)), until)
}

async fn one(address: SocketAddr, connector: TlsConnector, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut buffer = Vec::with_capacity(4096);
    while Instant::now() < until {
        let since = Instant::now();
        match exchange(address, &connector, &mut buffer).await {
            Ok(()) => tally.record(since),
            Err(_) => tally.failed += 1,
        }
    }
    tally
}

async fn exchange(address: SocketAddr, connector: &TlsConnector, buffer: &mut Vec<u8>) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(REQUEST).await?;
    read_answer(&mut stream, buffer).await
}
