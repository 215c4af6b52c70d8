//! The servers behind the proxies. Each has a thread of its own on the core of the load, and does as little as it can.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Outcome;
use super::client::runtime;
use super::machine::{Cores, pin};

/// The body of every answer.
pub const BODY: &[u8] = &[b'x'; 1024];

/// Answers each HTTP/1 request, which must be without a body, with [`BODY`].
///
/// # Errors
/// When there is no port.
pub fn http1(cores: Cores) -> Outcome<SocketAddr> {
    serve(cores, http1_connection)
}

/// The same over HTTP/2 with prior knowledge.
///
/// # Errors
/// When there is no port.
pub fn http2(cores: Cores) -> Outcome<SocketAddr> {
    serve(cores, http2_connection)
}

fn serve<F, C>(cores: Cores, connection: C) -> Outcome<SocketAddr>
where
    C: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        pin(cores.load);
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime to register with");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream));
            }
        });
    });
    Ok(address)
}

async fn http1_connection(mut stream: TcpStream) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nserver: bench\r\n\r\n",
        BODY.len()
    );
    let answer = [head.as_bytes(), BODY].concat();
    let mut buffer = vec![0; 16 * 1024];
    let mut matched = 0;
    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
        let requests = heads(&buffer[..n], &mut matched);
        let written = match requests {
            0 => Ok(()),
            1 => stream.write_all(&answer).await,
            _ => stream.write_all(&answer.repeat(requests)).await,
        };
        if written.is_err() {
            return;
        }
    }
}

/// How many heads end in `bytes`; `matched` is how much of an end came before them.
fn heads(bytes: &[u8], matched: &mut usize) -> usize {
    const END: &[u8] = b"\r\n\r\n";
    let mut ended = 0;
    for &byte in bytes {
        *matched = match byte {
            _ if byte == END[*matched] => *matched + 1,
            b'\r' => 1,
            _ => 0,
        };
        if *matched == END.len() {
            *matched = 0;
            ended += 1;
        }
    }
    ended
}

async fn http2_connection(stream: TcpStream) {
    let Ok(mut connection) = h2::server::Builder::new()
        .initial_connection_window_size(1 << 24)
        .max_concurrent_streams(10_000)
        .handshake(stream)
        .await
    else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let answer = http::Response::builder().header("content-type", "text/plain").header("server", "bench");
        let answer = answer.header("content-length", BODY.len()).body(()).expect("a valid answer");
        if let Ok(mut body) = respond.send_response(answer, false) {
            let _ = body.send_data(Bytes::from_static(BODY), true);
        }
    }
}

/// A server that reads what it is sent and says nothing.
pub struct Sink {
    pub address: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Sink {
    /// # Errors
    /// When there is no port.
    pub fn start(cores: Cores) -> Outcome<Sink> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        std::thread::spawn(move || {
            pin(cores.load);
            while let Ok((mut stream, _)) = listener.accept() {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 256 * 1024];
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        counter.fetch_add(n as u64, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Sink { address, received })
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::heads;

    #[test]
    fn heads_are_counted_across_reads() {
        let mut matched = 0;
        assert_eq!(heads(b"GET / HTTP/1.1\r\nhost: a\r", &mut matched), 0);
        assert_eq!(heads(b"\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r", &mut matched), 1);
        assert_eq!(heads(b"\nGET / HTTP/1.1\r\n\r\n", &mut matched), 2);
        assert_eq!(heads(b"\r\r\n\r\n", &mut matched), 1);
    }
}
