//! `envoy.config.endpoint.v3`: a host of a cluster. Hosts are stable by address, so that weights and health change in
//! place and pools, statistics and outlier records survive an update.
//!
//! A [`Host`] is what balancers pick and pools connect to. A [`HostSet`] is a snapshot of one priority, which the cluster
//! publishes and balancers read; it never changes, so whoever changes the health of a host has to publish a new one.

mod health;
mod host;
mod host_set;
#[cfg(test)]
mod tests;

pub use health::{Health, HealthFlags};
pub use host::{Addresses, Host, HostStats, Locality};
pub use host_set::{HostList, HostSet};
