use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;
use xds_protos::envoy::config::core::v3 as core;

use crate::config::{Path, Reject};
use crate::sys;

/// When a `SocketOption` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketState {
    /// After the socket is made and before bind(2) or connect(2).
    Prebind,
    /// After bind(2), before listen(2).
    Bound,
    /// After listen(2).
    Listening,
}

/// `envoy.config.core.v3.SocketOption`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SocketOption {
    level: i32,
    name: i32,
    value: Vec<u8>,
    state: SocketState,
    /// Only for sockets of this family: true for IPv4.
    v4: Option<bool>,
}

/// What is set on a stream socket beside its address: `socket_options`, `tcp_keepalive`, `freebind`, `transparent`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketOptions {
    pub freebind: bool,
    /// `None` leaves the system's default, which is off.
    pub transparent: Option<bool>,
    pub keepalive: Option<TcpKeepalive>,
    options: Vec<SocketOption>,
}

/// `envoy.config.core.v3.TcpKeepalive`; what is `None` keeps the system's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

impl TcpKeepalive {
    pub fn build(proto: &core::TcpKeepalive) -> Self {
        let core::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = proto;
        // An explicit zero means "the system's value" for each of them.
        let seconds = |value: &Option<u32>| value.filter(|&v| v > 0).map(|v| Duration::from_secs(v.into()));
        TcpKeepalive {
            probes: keepalive_probes.filter(|&v| v > 0),
            time: seconds(keepalive_time),
            interval: seconds(keepalive_interval),
        }
    }

    fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let mut keepalive = socket2::TcpKeepalive::new();
        if let Some(time) = self.time {
            keepalive = keepalive.with_time(time);
        }
        if let Some(interval) = self.interval {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(probes) = self.probes {
            keepalive = keepalive.with_retries(probes);
        }
        socket.set_tcp_keepalive(&keepalive)
    }
}

impl SocketOptions {
    /// Options from their protobufs, in the order in which they are set.
    ///
    /// # Errors
    /// When a level, name or value does not fit what setsockopt(2) takes.
    pub fn build(protos: &[core::SocketOption], path: &Path<'_>) -> Result<Self, Reject> {
        let mut options = Vec::with_capacity(protos.len());
        for (index, proto) in protos.iter().enumerate() {
            options.extend(SocketOption::build(proto, &path.index(index))?);
        }
        Ok(SocketOptions { options, ..SocketOptions::default() })
    }

    /// Sets what belongs to `state` on a socket for `address`.
    ///
    /// # Errors
    /// Of the first option that the system refuses; the text names it.
    pub fn apply(&self, fd: impl AsFd, address: IpAddr, state: SocketState) -> io::Result<()> {
        let v4 = address.is_ipv4();
        let socket = SockRef::from(&fd);
        let named = |what: &str, result: io::Result<()>| {
            result.map_err(|e| io::Error::new(e.kind(), format!("cannot set {what}: {e}")))
        };
        if state == SocketState::Prebind {
            if let Some(on) = self.transparent {
                let set = if v4 { socket.set_ip_transparent_v4(on) } else { socket.set_ip_transparent_v6(on) };
                named("IP_TRANSPARENT", set)?;
            }
            if self.freebind {
                let set = if v4 { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) };
                named("IP_FREEBIND", set)?;
            }
            if let Some(keepalive) = &self.keepalive {
                named("SO_KEEPALIVE", keepalive.apply(&socket))?;
            }
        }
        for option in self.options.iter().filter(|o| o.state == state && o.v4.is_none_or(|only| only == v4)) {
            let set = sys::set_option(&fd, option.level, option.name, &option.value);
            named(&format!("socket option {} of level {}", option.name, option.level), set)?;
        }
        Ok(())
    }
}

impl SocketOption {
    /// `None` for an option that is not for stream sockets.
    fn build(proto: &core::SocketOption, path: &Path<'_>) -> Result<Option<Self>, Reject> {
        let core::SocketOption { description: _, level, name, state, r#type, ip_version, value } = proto;
        let int = |field: &str, value: i64| {
            i32::try_from(value).map_err(|_| path.field(field).reject(format_args!("expected 32 bits, got {value}")))
        };
        let state = match core::socket_option::SocketState::try_from(*state) {
            Ok(core::socket_option::SocketState::StatePrebind) => SocketState::Prebind,
            Ok(core::socket_option::SocketState::StateBound) => SocketState::Bound,
            Ok(core::socket_option::SocketState::StateListening) => SocketState::Listening,
            Err(_) => return Err(path.field("state").reject(format_args!("unknown state {state}"))),
        };
        let value = match value {
            // As Envoy does: an int of the platform.
            Some(core::socket_option::Value::IntValue(value)) => int("int_value", *value)?.to_ne_bytes().to_vec(),
            Some(core::socket_option::Value::BufValue(value)) => value.to_vec(),
            None => return Err(path.reject("expected int_value or buf_value, got neither")),
        };
        let v4 = match core::socket_option::SocketIpVersion::try_from(*ip_version) {
            Ok(core::socket_option::SocketIpVersion::Unspecified) => None,
            Ok(core::socket_option::SocketIpVersion::Ipv4) => Some(true),
            Ok(core::socket_option::SocketIpVersion::Ipv6) => Some(false),
            Err(_) => return Err(path.field("ip_version").reject(format_args!("unknown version {ip_version}"))),
        };
        let option = SocketOption { level: int("level", *level)?, name: int("name", *name)?, value, state, v4 };
        let is_stream = r#type.as_ref().is_none_or(|of| of.stream.is_some() || of.datagram.is_none());
        Ok(is_stream.then_some(option))
    }
}

/// The socket address with an IPv4-mapped IPv6 address written as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(level: i64, name: i64, value: i64) -> core::SocketOption {
        core::SocketOption {
            level,
            name,
            value: Some(core::socket_option::Value::IntValue(value)),
            ..Default::default()
        }
    }

    #[test]
    fn options_reach_the_socket() {
        let mut protos = [option(libc::SOL_SOCKET.into(), libc::SO_RCVBUF.into(), 65_536); 1].to_vec();
        protos.push(core::SocketOption {
            ip_version: core::socket_option::SocketIpVersion::Ipv6 as i32,
            ..option(libc::SOL_SOCKET.into(), 9999, 1)
        });
        protos.push(core::SocketOption {
            state: core::socket_option::SocketState::StateListening as i32,
            ..option(libc::SOL_SOCKET.into(), 9999, 1)
        });
        let mut options = SocketOptions::build(&protos, &Path::root("o")).unwrap();
        options.keepalive = Some(TcpKeepalive { time: Some(Duration::from_secs(77)), ..Default::default() });
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let local = IpAddr::from([127, 0, 0, 1]);
        options.apply(&socket, local, SocketState::Prebind).unwrap();
        // Linux doubles the value.
        assert_eq!(socket.recv_buffer_size().unwrap(), 131_072);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
        let error = options.apply(&socket, local, SocketState::Listening).unwrap_err();
        assert!(error.to_string().contains("socket option 9999"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let of = |proto| SocketOptions::build(&[proto], &Path::root("o")).map(|_| ()).map_err(|e| e.path);
        assert_eq!(of(option(1 << 40, 1, 1)), Err("o[0].level".into()));
        assert_eq!(of(option(1, 1, 1 << 40)), Err("o[0].int_value".into()));
        assert_eq!(of(core::SocketOption { value: None, ..option(1, 1, 1) }), Err("o[0]".into()));
        assert_eq!(of(core::SocketOption { state: 7, ..option(1, 1, 1) }), Err("o[0].state".into()));
    }
}
