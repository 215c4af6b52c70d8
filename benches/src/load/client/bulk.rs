//! Bytes through one connection as fast as they go, in one direction.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Load;
use crate::load::machine::{Cores, pin};
use crate::load::upstream::Sink;

/// What is written at once.
const CHUNK: usize = 128 * 1024;

/// Sends to a proxy in front of `sink` until `time` is over, and waits for the last byte to have arrived.
pub fn load(address: SocketAddr, sink: &Sink, time: Duration, cores: Cores) -> Load {
    pin(cores.load);
    let before = sink.received();
    let started = Instant::now();
    let sent = send(address, time);
    let received = sink.received() - before;
    let lost = sent.map_or(true, |sent| sent != received);
    let mib = received as f64 / f64::from(1 << 20);
    Load { done: mib, failed: u64::from(lost), seconds: started.elapsed().as_secs_f64(), micros: Vec::new() }
}

/// Bytes that were sent, once the other end has closed too.
fn send(address: SocketAddr, time: Duration) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    let chunk = vec![0; CHUNK];
    let until = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < until {
        stream.write_all(&chunk)?;
        sent += CHUNK as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    let n = stream.read(&mut [0; 16])?;
    if n == 0 { Ok(sent) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
