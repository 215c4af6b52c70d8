//! What arrives at a server that is no handshake, or comes in pieces.

use super::*;

/// What the server says to these bytes, and why it gives up.
async fn say(server: &Downstream, bytes: &[u8]) -> (Vec<u8>, String) {
    let (near, mut far) = duplex(64 << 10);
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let refused = server.accept(raw(near), &connection()).await;
    let mut answer = Vec::new();
    let why = reason(refused);
    far.read_to_end(&mut answer).await.unwrap();
    (answer, why)
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let world = World::new();
    let server = world.server(common(&LeafBuilder::new(None).build()), false);
    let http = say(&server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(http.0, b"", "no alert for who speaks HTTP");
    assert_eq!(http.1, "TLS_error:|268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end");
    let zeros = say(&server, &[0; 64]).await;
    assert_eq!(zeros.1, "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end");
    assert_eq!(zeros.0.first(), Some(&21), "an alert");
    let short = say(&server, &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await;
    assert_eq!(short.1, "TLS_error:|268435587:SSL routines:OPENSSL_internal:CLIENTHELLO_PARSE_FAILED:TLS_error_end");
    let ssl = world.ssl("listener.l");
    assert_eq!(ssl.read(SslStats::CONNECTION_ERROR), 3);
    for gone in [&b""[..], &[22, 3, 1, 0]] {
        assert_eq!(say(&server, gone).await, (Vec::new(), String::new()), "nobody is there to be told");
    }
    assert_eq!(ssl.read(SslStats::CONNECTION_ERROR), 3);
}

#[tokio::test]
async fn a_hello_may_come_in_any_pieces() {
    let ca = Ca::new("root");
    let world = World::new();
    let server = world.server(common(&ca.leaf().build()), false);
    let client = world.client(proto::CommonTlsContext::default());
    let (options, info) = (ConnectOptions::default(), connection());
    // Through a pipe of 7 bytes everything comes in pieces.
    let (near, far) = duplex(7);
    let (accepted, connected) = tokio::join!(server.accept(raw(near), &info), client.connect(raw(far), &options, ""));
    assert!(accepted.is_ok() && connected.is_ok());
    // What a listener filter has read already comes first.
    let (mut near, far) = duplex(64 << 10);
    let accept = async {
        let mut prefix = BytesMut::with_capacity(4096);
        near.read_buf(&mut prefix).await.unwrap();
        let mut io = raw(near);
        io.prefix = prefix;
        server.accept(io, &connection()).await.map(|_| ())
    };
    let (accepted, connected) = tokio::join!(accept, client.connect(raw(far), &options, ""));
    assert!(accepted.is_ok() && connected.is_ok());
}

#[tokio::test]
async fn an_idle_connection_is_not_ready_to_read() {
    let world = World::new();
    let server = world.server(common(&LeafBuilder::new(None).build()), false);
    let client = world.client(with_max_13(proto::CommonTlsContext::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(tokio::net::TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let tcp = |stream| RawIo::new(Socket::Tcp(stream));
    let (options, info) = (ConnectOptions::default(), connection());
    let (near, far) =
        tokio::join!(server.accept(tcp(near.unwrap().0), &info), client.connect(tcp(far.unwrap()), &options, ""));
    let (mut near, mut far) = (near.unwrap(), far.unwrap().0);
    let ready = |io: &Io| io.poll_read_ready(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready();
    near.write_all(b"abc").await.unwrap();
    near.flush().await.unwrap();
    std::future::poll_fn(|cx| far.poll_read_ready(cx)).await.unwrap();
    // Session tickets come first.
    assert_eq!(far.read_u8().await.unwrap(), b'a');
    assert!(ready(&far), "the rest is decrypted already");
    assert_eq!(far.read_u16().await.unwrap(), u16::from_be_bytes(*b"bc"));
    let mut nothing = [0; 8];
    let idle = std::future::poll_fn(|cx| {
        let mut buf = tokio::io::ReadBuf::new(&mut nothing);
        let read = std::pin::Pin::new(&mut far).poll_read(cx, &mut buf);
        std::task::Poll::Ready(read.is_pending() && !ready(&far))
    });
    assert!(idle.await);
    near.shutdown().await.unwrap();
    std::future::poll_fn(|cx| far.poll_read_ready(cx)).await.unwrap();
    assert_eq!(far.read(&mut nothing).await.unwrap(), 0);
}
