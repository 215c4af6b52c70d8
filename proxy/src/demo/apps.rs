//! The applications behind the sidecars. They know nothing of the mesh: plain HTTP, gRPC, WebSocket and TCP on loopback.

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{orders, page, websocket};

pub type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What an application carries on from the request it serves to the requests it makes for it.
const CARRIED_ON: &str = "x-request-id";

/// A page that shows the way of the request, asking order-service for the second half of it.
pub async fn store_front(port: u16, outbound: u16) -> Result<(), String> {
    serve(port, move |request| async move {
        let headers = request.headers().clone();
        match ask_orders(outbound, &headers).await {
            Ok(second) => text(StatusCode::OK, "text/html; charset=utf-8", page::render(&headers, &second)),
            Err(error) => text(StatusCode::BAD_GATEWAY, "text/plain", format!("order-service: {error}\n")),
        }
    })
    .await
}

/// JSON for `/orders`, gRPC for `/orders.OrderService/`, an echo over WebSocket for `/ws`.
pub async fn order_service(port: u16, version: &'static str) -> Result<(), String> {
    serve(port, move |request| async move {
        match request.uri().path() {
            "/ws" => websocket::accept(request),
            path if path.starts_with("/orders.OrderService/") => orders::answer(request).await,
            _ => text(StatusCode::OK, "application/json", page::facts(request.headers(), version)),
        }
    })
    .await
}

/// Gives back every byte, and the end of the stream.
pub async fn tcp_echo(port: u16) -> Result<(), String> {
    let listener = bind(port).await?;
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(buffer.get(..n).unwrap_or_default()).await.is_err() {
                        return;
                    }
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    Ok(())
}

async fn bind(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| format!("port {port}: {e}"))
}

async fn serve<F, A>(port: u16, app: F) -> Result<(), String>
where
    F: Fn(Request<Incoming>) -> A + Copy + 'static,
    A: Future<Output = Answer> + 'static,
{
    let listener = bind(port).await?;
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let service = service_fn(move |request| async move { Ok::<_, Infallible>(app(request).await) });
                let builder = auto::Builder::new(LocalExecutor);
                // A peer that breaks off is no concern of a demo application.
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

async fn ask_orders(outbound: u16, from: &HeaderMap) -> Result<String, String> {
    let stream = TcpStream::connect(("127.0.0.1", outbound)).await.map_err(|e| e.to_string())?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::task::spawn_local(connection);
    let mut request = Request::get("/orders").header("host", "order-service.shop.svc.cluster.local");
    if let Some(id) = from.get(CARRIED_ON) {
        request = request.header(CARRIED_ON, id);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let response = client.send_request(request).await.map_err(|e| e.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() { Ok(body) } else { Err(format!("{status}: {body}")) }
}

pub fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
