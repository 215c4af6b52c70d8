//! ECDH on P-521 for rustls, whose aws-lc-rs provider stops at P-384. Envoy's `ecdh_curves` knows it.

use aws_lc_rs::agreement::{self, ECDH_P521, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::rand::SystemRandom;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

#[derive(Debug)]
pub(crate) struct P521;

impl SupportedKxGroup for P521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private = EphemeralPrivateKey::generate(&ECDH_P521, &SystemRandom::new()).map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { private, public: public.as_ref().to_vec() }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

struct Exchange {
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // TLS has the uncompressed form only (RFC 8446 4.2.8.2).
        if peer.first() != Some(&4) || peer.len() != self.public.len() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let peer = UnparsedPublicKey::new(&ECDH_P521, peer);
        let refused = Error::from(PeerMisbehaved::InvalidKeyShare);
        agreement::agree_ephemeral(self.private, peer, refused, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sides_agree() {
        let (a, b) = (P521.start().unwrap(), P521.start().unwrap());
        let (a_public, b_public) = (a.pub_key().to_vec(), b.pub_key().to_vec());
        assert_eq!((a_public.len(), a_public[0]), (133, 4));
        let (a, b) = (a.complete(&b_public).unwrap(), b.complete(&a_public).unwrap());
        assert_eq!(a.secret_bytes(), b.secret_bytes());
    }

    #[test]
    fn what_is_no_point_is_refused() {
        for bad in [&[][..], &[4; 133], &[2; 67]] {
            assert!(P521.start().unwrap().complete(bad).is_err());
        }
    }
}
