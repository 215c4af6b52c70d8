mod floods;
mod hostile;
mod life;

use std::rc::Rc;

use bytes::Bytes;
use http::HeaderMap;

use crate::http::http2::testing::{
    Frames, Service, collect, drain_body, get, good_client, post, reply, run, serve, server_settings,
};
use crate::http::{Body, Frame, Protocol};

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
}

#[test]
fn a_request_without_body_is_answered() {
    run(async {
        let service = Service::new(|request| async move {
            assert_eq!(request.head.path, "/hello?x=1");
            assert_eq!(request.head.authority, "a.test");
            assert_eq!(request.head.protocol, Protocol::Http2);
            assert!(request.body.is_end_stream());
            reply(200, Body::Full(Bytes::from_static(b"hello")))
        });
        let (_served, io) = serve(service, server_settings());
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        let (response, _) = client.send_request(get("/hello?x=1"), true).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(drain_body(response.body_mut()).await.unwrap(), (b"hello".to_vec(), None));
    });
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    run(async {
        let service = Service::new(|mut request| async move {
            let (data, got) = collect(&mut request.body).await.unwrap();
            assert_eq!(got, Some(trailers("x-req", "1")));
            reply(200, Frames::body([Frame::Data(data.into()), Frame::Trailers(trailers("grpc-status", "0"))]))
        });
        let (_served, io) = serve(Rc::clone(&service), server_settings());
        let mut client = good_client(io, h2::client::Builder::new().initial_window_size(1 << 20)).await;
        let (response, mut send) = client.send_request(post("/"), false).unwrap();
        let sent: Vec<u8> = (0..700_000u32).map(|i| i as u8).collect();
        send.send_data(Bytes::from(sent.clone()), false).unwrap();
        send.send_trailers(trailers("x-req", "1")).unwrap();
        let mut response = response.await.unwrap();
        let (data, got) = drain_body(response.body_mut()).await.unwrap();
        assert!(data == sent);
        assert_eq!(got, Some(trailers("grpc-status", "0")));
    });
}
