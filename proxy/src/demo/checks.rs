//! `demo --once`: drives the mesh and says what worked.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::scenes::{self, Traffic};
use super::topology::Topology;
use super::{orders, websocket};

type Result<T> = std::result::Result<T, String>;

/// Runs every check, prints a table, and says whether all passed.
pub async fn run(topology: &mut Topology) -> bool {
    let (http, tcp) = (topology.port("gateway http"), topology.port("gateway tcp"));
    let traffic = Traffic::start(http);
    let checks: [(&str, Result<String>); 12] = [
        ("HTTP/1.1 page through two sidecars", bounded(page(http)).await),
        ("HTTP/1.1 JSON", bounded(json(http)).await),
        ("gRPC unary", bounded(grpc(http, "Place", 1)).await),
        ("gRPC server streaming", bounded(grpc(http, "Watch", 3)).await),
        ("WebSocket echo", bounded(ws(http)).await),
        ("TCP echo with half-close", bounded(echo(tcp)).await),
        ("plaintext refused by a STRICT sidecar", bounded(plaintext(topology.port("store-front inbound"))).await),
        ("request counted by the gateway", bounded(stats(topology.port("gateway admin"))).await),
        ("xDS: canary 90/10, then all", in_time(scenes::canary(topology)).await),
        ("xDS: PERMISSIVE, then STRICT", in_time(scenes::strict(topology)).await),
        ("xDS: certificate rotated", in_time(scenes::rotation(topology)).await),
        ("no request failed during the changes", traffic.verdict().map(|sent| format!("{sent} answered"))),
    ];
    let mut passed = true;
    println!("{:<40} {:<6} detail", "check", "result");
    for (name, result) in &checks {
        let (word, detail) = match result {
            Ok(detail) => ("ok", detail),
            Err(why) => ("FAILED", why),
        };
        passed &= result.is_ok();
        println!("{name:<40} {word:<6} {detail}");
    }
    let failed = checks.iter().filter(|(_, result)| result.is_err()).count();
    println!("{} passed, {failed} failed", checks.len() - failed);
    passed
}

async fn bounded(check: impl Future<Output = Result<String>>) -> Result<String> {
    tokio::time::timeout(Duration::from_secs(10), check).await.unwrap_or_else(|_| Err("no answer in 10 s".to_owned()))
}

async fn in_time(scene: impl Future<Output = Result<String>>) -> Result<String> {
    tokio::time::timeout(Duration::from_secs(60), scene).await.unwrap_or_else(|_| Err("not done in 60 s".to_owned()))
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn connect(port: u16) -> Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await.map_err(say)
}

pub async fn get(port: u16, path: &str) -> Result<(http::response::Parts, String)> {
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connect(port).await?)).await.map_err(say)?;
    tokio::task::spawn_local(connection);
    let request = Request::get(path).header("host", "shop.test").body(Empty::<Bytes>::new()).map_err(say)?;
    let (parts, body) = client.send_request(request).await.map_err(say)?.into_parts();
    let body = body.collect().await.map_err(say)?.to_bytes();
    Ok((parts, String::from_utf8_lossy(&body).into_owned()))
}

fn expect(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(otherwise()) }
}

async fn page(port: u16) -> Result<String> {
    let (head, body) = get(port, "/").await?;
    expect(head.status == StatusCode::OK, || format!("status {}: {body}", head.status))?;
    for identity in ["spiffe://cluster.local/ns/edge/sa/gateway", "spiffe://cluster.local/ns/shop/sa/store-front"] {
        expect(body.contains(identity), || format!("the page does not show the caller {identity}"))?;
    }
    Ok("both callers proved their SPIFFE identity".to_owned())
}

async fn json(port: u16) -> Result<String> {
    let (head, body) = get(port, "/orders").await?;
    expect(head.status == StatusCode::OK, || format!("status {}: {body}", head.status))?;
    expect(body.contains("x-request-id"), || format!("no request id: {body}"))?;
    let server = head.headers.get("server").and_then(|v| v.to_str().ok()).unwrap_or("-");
    Ok(format!("200, server: {server}"))
}

async fn grpc(port: u16, method: &str, answers: usize) -> Result<String> {
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(connect(port).await?))
            .await
            .map_err(say)?;
    tokio::task::spawn_local(connection);
    let request = Request::post(format!("http://shop.test/orders.OrderService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(orders::frame("tea")))
        .map_err(say)?;
    let response = client.send_request(request).await.map_err(say)?;
    expect(response.status() == StatusCode::OK, || format!("status {}", response.status()))?;
    let body = response.into_body().collect().await.map_err(say)?;
    let status = body.trailers().and_then(|t| t.get("grpc-status")).cloned();
    expect(status.as_ref().is_some_and(|s| s == "0"), || format!("grpc-status {status:?}"))?;
    let texts = orders::unframe(&body.to_bytes()).ok_or("malformed messages")?;
    expect(texts.len() == answers, || format!("expected {answers} messages, got {texts:?}"))?;
    Ok(texts.join("; "))
}

async fn ws(port: u16) -> Result<String> {
    let mut stream = connect(port).await?;
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.map_err(say)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.map_err(say)?);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    expect(answer.starts_with("HTTP/1.1 101"), || answer.lines().next().unwrap_or_default().to_owned())?;
    expect(answer.contains(&websocket::accept_key(key)), || "wrong Sec-WebSocket-Accept".to_owned())?;
    let message = b"ahoy over websocket";
    websocket::write_message(&mut stream, 1, message, Some([1, 2, 3, 4])).await.map_err(say)?;
    let echoed = websocket::read_message(&mut stream).await.map_err(say)?;
    expect(echoed == Some((1, message.to_vec())), || format!("got {echoed:?}"))?;
    websocket::write_message(&mut stream, 8, b"", Some([5, 6, 7, 8])).await.map_err(say)?;
    let closed = websocket::read_message(&mut stream).await.map_err(say)?;
    expect(closed.is_some_and(|(opcode, _)| opcode == 8), || "no close frame".to_owned())?;
    Ok("101, message and close came back".to_owned())
}

async fn echo(port: u16) -> Result<String> {
    let mut stream = connect(port).await?;
    let sent: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    let (mut read, mut write) = stream.split();
    let send = async {
        write.write_all(&sent).await.map_err(say)?;
        write.shutdown().await.map_err(say)
    };
    let receive = async {
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.map_err(say)?;
        Ok::<_, String>(got)
    };
    let (sent_result, got) = tokio::join!(send, receive);
    sent_result?;
    let got = got?;
    expect(got == sent, || format!("{} bytes came back, {} were sent", got.len(), sent.len()))?;
    Ok(format!("{} bytes came back after our end of stream", got.len()))
}

pub async fn plaintext(port: u16) -> Result<String> {
    let mut stream = connect(port).await?;
    // The sidecar may close before all is written.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: store-front\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    expect(!answer.starts_with(b"HTTP/"), || "it answered plain HTTP".to_owned())?;
    Ok("connection closed without an answer".to_owned())
}

async fn stats(port: u16) -> Result<String> {
    let (head, body) = get(port, "/stats?filter=http.gateway.downstream_rq_2xx").await?;
    expect(head.status == StatusCode::OK, || format!("status {}", head.status))?;
    let count = body.trim().rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    expect(count >= 4, || format!("expected at least 4 responses of class 2xx, got {body:?}"))?;
    Ok(format!("downstream_rq_2xx: {count}"))
}
