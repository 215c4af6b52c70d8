//! What one handshake tells the shared verifier and certificate selector, and what it hears from them.
//!
//! rustls' verifiers and resolvers are shared by all connections of a context and are not told which connection they are called
//! for. Some things belong to the connection, though: the name that `auto_san_validation` wants in the peer's certificate, whether
//! the client asks for an OCSP staple, why a certificate was refused in Envoy's words, the peer's signature scheme. They travel in a
//! [`Handshake`], which its owner puts in reach of the calling thread for as long as rustls runs: [`Handshake::run`] around
//! every call that may do handshake work. A handshake on another connection of the same thread has its own.
//!
//! Where nothing is in reach, nothing is relaxed: a verifier that needs a name to check then refuses the certificate.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::SignatureScheme;

use crate::material::TlsCertificate;
use crate::verifier::VerifyFailure;

thread_local! {
    static CURRENT: RefCell<Option<Handshake>> = const { RefCell::new(None) };
}

/// Which names the server's certificate must carry, beyond what the validation context says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExpectedNames {
    /// Envoy's `verifySubjectAltNameListOverride`: one of these has to be there.
    pub(crate) list: Vec<String>,
    /// The server name sent, for `auto_sni_san_validation`.
    pub(crate) sni: Option<String>,
}

/// What became of the peer's certificate (Envoy's `ClientValidationStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeerValidation {
    /// Nothing was to be checked.
    #[default]
    NotValidated,
    /// There was none.
    NoCertificate,
    /// It passed.
    Validated,
    /// It did not. The handshake goes on only under `ACCEPT_UNTRUSTED`.
    Failed,
}

/// What was done about OCSP stapling; counted as `ssl.ocsp_staple_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StapleAction {
    /// The response was sent.
    Staple,
    /// There is none that may be sent, and the policy lets that pass.
    NoStaple,
    /// The policy demands one that is not there: the handshake fails.
    Fail,
    /// The client does not ask.
    ClientNotCapable,
}

/// The state of one handshake; see the module.
#[derive(Debug, Default)]
pub struct Handshake {
    pub(crate) names: ExpectedNames,
    /// Servers, to be set before a certificate is chosen: see [`asks_for_ocsp_staple`](crate::server::asks_for_ocsp_staple).
    pub client_asks_for_ocsp: bool,
    /// The check that failed, also when `ACCEPT_UNTRUSTED` let the peer pass.
    pub failure: Option<VerifyFailure>,
    /// What became of the peer's certificate.
    pub validation: PeerValidation,
    /// What the peer signed the handshake with.
    pub peer_signature_scheme: Option<SignatureScheme>,
    /// Servers: what was stapled, once a certificate was chosen.
    pub staple: Option<StapleAction>,
    /// The certificate that was presented to the peer, if any.
    pub local: Option<Arc<TlsCertificate>>,
}

impl Handshake {
    /// Calls `f` with this handshake in reach of the verifier and the certificate selector.
    pub fn run<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let outer = CURRENT.with(|current| current.replace(Some(std::mem::take(self))));
        let _restore = Restore { handshake: self, outer };
        f()
    }

    /// Lets `f` see and change the handshake in reach, if there is one.
    pub(crate) fn with<R>(f: impl FnOnce(Option<&mut Handshake>) -> R) -> R {
        CURRENT.with(|current| match current.try_borrow_mut() {
            Ok(mut current) => f(current.as_mut()),
            Err(_) => f(None),
        })
    }
}

/// Takes the handshake back, also when rustls panics.
struct Restore<'a> {
    handshake: &'a mut Handshake,
    outer: Option<Handshake>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        if let Some(own) = CURRENT.with(|current| current.replace(outer)) {
            *self.handshake = own;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(ocsp: bool) {
        Handshake::with(|handshake| handshake.unwrap().client_asks_for_ocsp = ocsp);
    }

    #[test]
    fn each_handshake_is_in_reach_only_while_it_runs() {
        let (mut a, mut b) = (Handshake::default(), Handshake::default());
        Handshake::with(|none| assert!(none.is_none()));
        a.run(|| {
            mark(true);
            b.run(|| Handshake::with(|h| assert!(!h.unwrap().client_asks_for_ocsp)));
            Handshake::with(|h| assert!(h.unwrap().client_asks_for_ocsp));
        });
        assert!(a.client_asks_for_ocsp && !b.client_asks_for_ocsp);
        Handshake::with(|none| assert!(none.is_none()));
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let mut a = Handshake::default();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            a.run(|| {
                mark(true);
                panic!("in rustls");
            })
        }));
        assert!(panic.is_err() && a.client_asks_for_ocsp);
        Handshake::with(|none| assert!(none.is_none()));
    }
}
