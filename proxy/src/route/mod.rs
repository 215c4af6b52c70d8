//! `envoy.config.route.v3`: which virtual host and route answer a request, and what is to be done with it.

/// One route of a virtual host.
pub struct RouteEntry {}
