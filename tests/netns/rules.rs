//! What `istio-iptables` leaves behind, in the same chains. The proxy is known by its group.

/// The group of the proxy.
pub const GROUP: u32 = 1337;

/// `--istio-inbound-interception-mode REDIRECT`, both directions; `iptables` or `ip6tables`.
pub fn redirect(iptables: &str, loopback: &str) -> String {
    let passthrough_source = if iptables == "iptables" { "127.0.0.6/32" } else { "::6/128" };
    format!(
        "{iptables} -t nat -N ISTIO_INBOUND
         {iptables} -t nat -N ISTIO_REDIRECT
         {iptables} -t nat -N ISTIO_IN_REDIRECT
         {iptables} -t nat -N ISTIO_OUTPUT
         {iptables} -t nat -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
         {iptables} -t nat -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
         {iptables} -t nat -A PREROUTING -p tcp -j ISTIO_INBOUND
         {iptables} -t nat -A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
         {iptables} -t nat -A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
         {iptables} -t nat -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
         {iptables} -t nat -A OUTPUT -j ISTIO_OUTPUT
         {iptables} -t nat -A ISTIO_OUTPUT -o lo -s {passthrough_source} -j RETURN
         {iptables} -t nat -A ISTIO_OUTPUT -o lo ! -d {loopback} -p tcp ! --dport 15008 -m owner --gid-owner {GROUP} -j ISTIO_IN_REDIRECT
         {iptables} -t nat -A ISTIO_OUTPUT -o lo -m owner ! --gid-owner {GROUP} -j RETURN
         {iptables} -t nat -A ISTIO_OUTPUT -m owner --gid-owner {GROUP} -j RETURN
         {iptables} -t nat -A ISTIO_OUTPUT -d {loopback} -j RETURN
         {iptables} -t nat -A ISTIO_OUTPUT -j ISTIO_REDIRECT"
    )
}

/// `--istio-inbound-interception-mode TPROXY`, inbound: the socket keeps the destination, and connections that the proxy makes in the
/// client's name come back to it by their mark.
pub const TPROXY: &str = "
    iptables -t mangle -N ISTIO_DIVERT
    iptables -t mangle -N ISTIO_TPROXY
    iptables -t mangle -N ISTIO_INBOUND
    iptables -t mangle -A ISTIO_DIVERT -j MARK --set-mark 1337
    iptables -t mangle -A ISTIO_DIVERT -j ACCEPT
    iptables -t mangle -A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --tproxy-mark 1337/0xffffffff --on-port 15006
    iptables -t mangle -A PREROUTING -p tcp -j ISTIO_INBOUND
    iptables -t mangle -A ISTIO_INBOUND -p tcp -m mark --mark 1337 -j RETURN
    iptables -t mangle -A ISTIO_INBOUND -p tcp -s 127.0.0.6/32 -i lo -j RETURN
    iptables -t mangle -A ISTIO_INBOUND -p tcp -i lo -m mark ! --mark 1337 -j RETURN
    iptables -t mangle -A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT
    iptables -t mangle -A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY
    iptables -t mangle -A PREROUTING -p tcp -m mark --mark 1337 -j CONNMARK --save-mark
    iptables -t mangle -A OUTPUT -p tcp -m connmark --mark 1337 -j CONNMARK --restore-mark
    ip rule add fwmark 1337 lookup 133
    ip route add local default dev lo table 133
";
