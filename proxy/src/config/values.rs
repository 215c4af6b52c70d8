//! Small protobuf messages that many resources share, as Rust values.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use prost::Message;
use prost_types::Any;
use xds_protos::envoy::config::core::v3 as core;

use super::{Path, Reject};
use crate::net::Address;

/// A duration of zero or more.
///
/// # Errors
/// When it is negative, or its nanoseconds are not below one second.
pub fn duration(value: &prost_types::Duration, path: &Path<'_>) -> Result<Duration, Reject> {
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(path
            .reject(format_args!("expected a duration of zero or more, got {}s and {}ns", value.seconds, value.nanos))),
    }
}

/// The same for a field that may be absent.
///
/// # Errors
/// As [`duration`].
pub fn optional_duration(value: Option<&prost_types::Duration>, path: &Path<'_>) -> Result<Option<Duration>, Reject> {
    value.map(|value| duration(value, path)).transpose()
}

/// Reads the message in an `Any` whose type URL was already looked up.
///
/// # Errors
/// When the bytes are not that message.
pub fn decode<M: Message + Default>(config: &Any, path: &Path<'_>) -> Result<M, Reject> {
    M::decode(&*config.value).map_err(|e| path.reject(format_args!("expected a {}: {e}", config.type_url)))
}

/// An IP address without a port.
///
/// # Errors
/// When it is not one, for example a host name.
pub fn ip(value: &str, path: &Path<'_>) -> Result<IpAddr, Reject> {
    value.parse().map_err(|_| path.reject(format_args!("expected an IP address, got {value:?}")))
}

/// A `SocketAddress` that names an IP and a port; port 0 where a port may be chosen.
///
/// # Errors
/// For UDP, a named port, a resolver or a network namespace.
pub fn socket_address(value: &core::SocketAddress, path: &Path<'_>) -> Result<SocketAddr, Reject> {
    let core::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat: _, // only a listener asks for it
        network_namespace_filepath,
        port_specifier,
    } = value;
    if *protocol != core::socket_address::Protocol::Tcp as i32 {
        return Err(path.field("protocol").reject("expected TCP, got UDP, which is not supported"));
    }
    if !resolver_name.is_empty() {
        return Err(path.field("resolver_name").reject("custom address resolvers are not supported"));
    }
    if !network_namespace_filepath.is_empty() {
        return Err(path.field("network_namespace_filepath").reject("network namespaces are not supported"));
    }
    let port = match port_specifier {
        Some(core::socket_address::PortSpecifier::PortValue(port)) => u16::try_from(*port).map_err(|_| {
            path.field("port_value").reject(format_args!("expected a port of at most 65535, got {port}"))
        })?,
        Some(core::socket_address::PortSpecifier::NamedPort(name)) => {
            return Err(path.field("named_port").reject(format_args!("named ports are not supported, got {name:?}")));
        }
        None => return Err(path.reject("expected port_value, got no port")),
    };
    Ok(SocketAddr::new(ip(address, &path.field("address"))?, port))
}

/// An address that needs no name resolution: an IP and a port, or a pipe.
///
/// # Errors
/// For host names and internal addresses.
pub fn address(value: &core::Address, path: &Path<'_>) -> Result<Address, Reject> {
    match &value.address {
        Some(core::address::Address::SocketAddress(socket)) => {
            socket_address(socket, &path.field("socket_address")).map(Address::Ip)
        }
        Some(core::address::Address::Pipe(pipe)) if pipe.path.is_empty() => {
            Err(path.field("pipe").field("path").reject("expected a path, got none"))
        }
        Some(core::address::Address::Pipe(pipe)) => Ok(Address::Pipe(pipe.path.as_str().into())),
        Some(core::address::Address::EnvoyInternalAddress(_)) => {
            Err(path.field("envoy_internal_address").reject("internal listeners are not supported"))
        }
        None => Err(path.reject("expected socket_address or pipe, got nothing")),
    }
}

/// A CIDR range. Bits beyond the prefix are cleared, as Envoy does; a range without length is the one of length 0.
///
/// # Errors
/// When the address is none, or the length too great for its family.
pub fn cidr_range(value: &core::CidrRange, path: &Path<'_>) -> Result<IpNet, Reject> {
    let address = ip(&value.address_prefix, &path.field("address_prefix"))?;
    let length = value.prefix_len.unwrap_or(0);
    let too_long = || path.field("prefix_len").reject(format_args!("{length} is too long for {address}"));
    let length = u8::try_from(length).map_err(|_| too_long())?;
    Ok(IpNet::new(address, length).map_err(|_| too_long())?.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Path<'static> {
        Path::root("f")
    }

    #[test]
    fn durations_are_not_negative() {
        let of = |seconds, nanos| duration(&prost_types::Duration { seconds, nanos }, &root());
        assert_eq!(of(1, 500_000_000), Ok(Duration::from_millis(1500)));
        assert_eq!(of(0, 0), Ok(Duration::ZERO));
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(of(seconds, nanos).unwrap_err().path, "f");
        }
    }

    #[test]
    fn ranges_are_cut_to_their_prefix() {
        let of = |address: &str, len| {
            cidr_range(&core::CidrRange { address_prefix: address.into(), prefix_len: len }, &root())
        };
        assert_eq!(of("10.1.2.3", Some(8)).unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(of("::1", Some(128)).unwrap().to_string(), "::1/128");
        assert_eq!(of("10.1.2.3", None).unwrap().to_string(), "0.0.0.0/0");
        assert_eq!(of("10.1.2.3", Some(33)).unwrap_err().path, "f.prefix_len");
        assert_eq!(of("x", Some(3)).unwrap_err().path, "f.address_prefix");
    }

    #[test]
    fn addresses_need_no_resolver() {
        use super::core::socket_address::PortSpecifier::{NamedPort, PortValue};
        let of = |address: &str, port| {
            let socket = core::SocketAddress { address: address.into(), port_specifier: port, ..Default::default() };
            socket_address(&socket, &root()).map_err(|e| e.path)
        };
        assert_eq!(of("::1", Some(PortValue(8080))), Ok("[::1]:8080".parse().unwrap()));
        assert_eq!(of("::1", Some(PortValue(65536))), Err("f.port_value".into()));
        assert_eq!(of("::1", Some(NamedPort("http".into()))), Err("f.named_port".into()));
        assert_eq!(of("::1", None), Err("f".into()));
        assert_eq!(of("host.test", Some(PortValue(1))), Err("f.address".into()));
    }
}
