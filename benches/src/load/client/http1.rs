//! Keep-alive connections, one request at a time on each.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Load, Tally, run};
use crate::load::machine::Cores;
use crate::load::upstream::BODY;

pub const REQUEST: &[u8] = b"GET /bench HTTP/1.1\r\nhost: bench.test\r\nuser-agent: bench\r\naccept: */*\r\n\r\n";

pub fn load(address: SocketAddr, connections: usize, time: Duration, cores: Cores) -> Load {
    let until = Instant::now() + time;
    run(cores, time, (0..connections).map(|_| one(address, until)), until)
}

async fn one(address: SocketAddr, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut buffer = Vec::with_capacity(4096);
    while Instant::now() < until {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            tally.failed += 1;
            return tally;
        };
        let _ = stream.set_nodelay(true);
        while Instant::now() < until {
            let since = Instant::now();
            match exchange(&mut stream, &mut buffer).await {
                Ok(()) => tally.record(since),
                Err(_) => {
                    tally.failed += 1;
                    break;
                }
            }
        }
    }
    tally
}

async fn exchange(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(REQUEST).await?;
    read_answer(stream, buffer).await
}

/// Reads one answer, which must be a 200 with [`BODY`], and nothing behind it.
///
/// # Errors
/// When it is anything else.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(head) = memchr::memmem::find(buffer, b"\r\n\r\n") else { continue };
        if buffer.len() == head + 4 + BODY.len() && buffer.starts_with(b"HTTP/1.1 200 ") {
            return Ok(());
        }
        if buffer.len() > head + 4 + BODY.len() || !buffer.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// Opens connections that each carry one request and then stay open.
///
/// # Errors
/// When one cannot be opened, or is not answered.
pub fn idle(address: SocketAddr, connections: usize) -> io::Result<Vec<std::net::TcpStream>> {
    use std::io::{Read, Write};
    let mut open = Vec::with_capacity(connections);
    let mut buffer = [0; 8192];
    for _ in 0..connections {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(REQUEST)?;
        let mut held = 0;
        loop {
            held += match stream.read(&mut buffer[held..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => n,
            };
            match memchr::memmem::find(&buffer[..held], b"\r\n\r\n") {
                Some(head) if held == head + 4 + BODY.len() => break,
                _ => {}
            }
        }
        open.push(stream);
    }
    Ok(open)
}
