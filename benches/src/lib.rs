//! What is measured here, and how: `benches/` holds criterion's micro benches, [`load`] the harness that puts a real Envoy
//! beside Outrigger, [`fixtures`] what the micro benches share. Neither is product; both use the proxy only as a user of its library or its binary does.

pub mod fixtures;
pub mod load;
