//! `envoy.config.listener.v3.Listener`: bound sockets, listener filters, and the hand-off to a filter chain.

pub mod filters;
