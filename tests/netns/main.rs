//! Redirected traffic, as a pod sees it: network namespaces of the test's own making, with the iptables rules that Istio's
//! `istio-iptables` writes (outbound to 15001, inbound to 15006, the proxy's own traffic left alone).
//!
//! Needs root, `ip` and `iptables`, and a kernel with the matches that the rules use; where something is missing, each test
//! says so in one line and passes.

mod namespace;
mod rules;
mod sidecar;

use tests::skipped;

use namespace::Namespace;

/// Two machines on one wire, `.0` the pod; `None` where that cannot be made here.
fn pod_and_peer() -> Option<(Namespace, Namespace)> {
    let how = "run the tests as root with iproute2 and iptables installed, as .ci/run does";
    if !tests::is_root() {
        skipped("redirection in network namespaces: not root", how);
        return None;
    }
    let made = Namespace::new().and_then(|pod| Namespace::new().map(|peer| (pod, peer)));
    let made = made.and_then(|(pod, peer)| namespace::wire(&pod, &peer).map(|()| (pod, peer)));
    match made {
        Ok(both) => Some(both),
        Err(why) => {
            skipped(&format!("redirection in network namespaces: {why}"), how);
            None
        }
    }
}

/// Whether the rules are in force.
fn ready(result: Result<(), String>) -> bool {
    if let Err(why) = &result {
        skipped(
            &format!("redirection by iptables: {why}"),
            "the kernel must have the matches that istio-iptables uses",
        );
    }
    result.is_ok()
}
