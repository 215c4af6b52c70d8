//! `/certs`: the certificates of every TLS context.

use xds_protos::envoy::admin::v3 as pb;

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/certs", mutates: false, help: "certificates in use, as JSON", params: &[], respond };

fn respond(request: &Request<'_>) -> Reply {
    let certificates = request.cx.certificates.certificates();
    Reply::message(&pb::Certificates { certificates }, true)
}
