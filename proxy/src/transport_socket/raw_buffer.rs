//! `envoy.transport_sockets.raw_buffer`: bytes as they are.

use prost_types::Any;
use xds_protos::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;

use super::{Downstream, TransportCx, Upstream};
use crate::config::{Path, Reject, values};

/// # Errors
/// When the bytes are no `RawBuffer`.
pub fn build_downstream(config: &Any, path: &Path<'_>, _: TransportCx<'_>) -> Result<Downstream, Reject> {
    values::decode::<RawBuffer>(config, path)?;
    Ok(Downstream::Raw)
}

/// # Errors
/// When the bytes are no `RawBuffer`.
pub fn build_upstream(config: &Any, path: &Path<'_>, _: TransportCx<'_>) -> Result<Upstream, Reject> {
    values::decode::<RawBuffer>(config, path)?;
    Ok(Upstream::Raw)
}
