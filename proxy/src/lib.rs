//! Outrigger: a data-plane proxy that takes Envoy's place in an Istio mesh. This page is the map of the crate; every
//! folder's own page says which Envoy concept it stands for.
//!
//! A connection goes through [`listener`] → [`filter_chain`] → [`transport_socket`] → [`network`]; a request through
//! [`http`] → [`http_filters`] → [`route`] → [`cluster`] → [`pool`] and back. [`stream_info`] holds what is known of
//! both; [`access_log`], [`formatter`] and [`stats`] tell it. [`config`] has what every builder uses.
#![deny(unsafe_code)]
#![allow(deprecated, reason = "deprecated fields of the API are still sent; each is read or refused by name")]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::todo)
)]

pub mod access_log;
pub mod admin;
pub mod bootstrap;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod endpoint;
pub mod filter_chain;
pub mod formatter;
pub mod http;
pub mod http_filters;
pub mod lb;
pub mod listener;
pub mod logging;
pub mod net;
pub mod network;
pub mod pool;
pub mod registry;
pub mod route;
pub mod runtime;
pub mod server;
pub mod stats;
pub mod stream_info;
pub mod sys;
pub mod transport_socket;
