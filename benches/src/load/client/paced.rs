//! Keep-alive connections that ask at a given rate, whether or not the answers come as fast.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::http1::{REQUEST, read_answer};
use super::{Load, Tally, run};
use crate::load::machine::Cores;

/// `rate` requests each second in all, on so many connections.
pub fn load(address: SocketAddr, connections: usize, rate: usize, time: Duration, cores: Cores) -> Load {
    let until = Instant::now() + time;
    let period = Duration::from_secs_f64(connections as f64 / rate as f64);
    run(
        cores,
        time,
        (0..connections).map(|n| one(address, period, period.mul_f64(n as f64 / connections as f64), until)),
        until,
    )
}

async fn one(address: SocketAddr, period: Duration, offset: Duration, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut stream: Option<TcpStream> = None;
    let mut buffer = Vec::with_capacity(4096);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, period);
    loop {
        ticks.tick().await;
        let since = Instant::now();
        if since >= until {
            return tally;
        }
        match exchange(&mut stream, address, &mut buffer).await {
            Ok(()) => tally.record(since),
            Err(_) => {
                stream = None;
                tally.failed += 1;
            }
        }
    }
}

async fn exchange(stream: &mut Option<TcpStream>, address: SocketAddr, buffer: &mut Vec<u8>) -> io::Result<()> {
    let open = match stream {
        Some(open) => open,
        None => {
            let new = TcpStream::connect(address).await?;
            new.set_nodelay(true)?;
            stream.insert(new)
        }
    };
    open.write_all(REQUEST).await?;
    read_answer(open, buffer).await?;
    // A proxy that drains says so with the last answer.
    if memchr::memmem::find(buffer, b"connection: close\r\n").is_some() {
        *stream = None;
    }
    Ok(())
}
