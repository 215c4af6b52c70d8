//! Envoy's words for a failed handshake: BoringSSL's error queue, printed.
//!
//! `TLS_error:|<code>:SSL routines:OPENSSL_internal:<REASON>:<detail>:TLS_error_end`, where the code is the library's number (16) in the upper
//! byte and the reason's below. The reasons that have a counterpart in rustls are listed with the numbers that Envoy 1.40 printed;
//! for the others rustls' own words stand where the reason would, without a number.

use std::borrow::Cow;
use std::io;

use certs::handshake::{Handshake, StapleAction};
use certs::verifier::{FailedCheck, VerifyFailure};
use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};

pub const NO_SECRET: &str = "TLS error: Secret is not supplied by SDS";

/// `ERR_LIB_SSL` and `ERR_LIB_SYS`.
const SSL: u32 = 16 << 24;
const SYS: u32 = 2 << 24;

/// What a failure is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The socket's end, which other statistics know of.
    Nothing,
    /// `ssl.connection_error`
    ConnectionError,
    /// `ssl.fail_verify_*`
    Verification(FailedCheck),
}

/// Why a handshake failed.
#[derive(Debug)]
pub struct Failure {
    counted: Counted,
    reason: Cow<'static, str>,
    staple: Option<StapleAction>,
    plaintext_http: bool,
}

impl Failure {
    fn new(counted: Counted, reason: impl Into<Cow<'static, str>>) -> Self {
        Failure { counted, reason: reason.into(), staple: None, plaintext_http: false }
    }

    /// The peer closed the connection; Envoy gives no reason.
    pub fn peer_gone() -> Self {
        Failure::new(Counted::Nothing, "")
    }

    pub fn uncounted(reason: Cow<'static, str>) -> Self {
        Failure::new(Counted::Nothing, reason)
    }

    pub fn counted(&self) -> Counted {
        self.counted
    }

    pub fn staple(&self) -> Option<StapleAction> {
        self.staple
    }

    pub fn is_plaintext_http(&self) -> bool {
        self.plaintext_http
    }

    pub fn into_reason(self) -> Cow<'static, str> {
        self.reason
    }
}

/// A failure while the handshake was under way.
pub fn of_handshake(error: &io::Error, handshake: &Handshake) -> Failure {
    let staple = handshake.staple.filter(|action| *action == StapleAction::Fail);
    let failure = match tls_error(error) {
        Some(error) => of_tls(error, handshake),
        None => of_socket(error),
    };
    Failure { staple, ..failure }
}

/// A peer that was refused after the fact: on resumption.
pub fn of_verification(failure: &VerifyFailure) -> Failure {
    match failure.check() {
        FailedCheck::KeyUsage => Failure::new(Counted::ConnectionError, ssl(302, "KEY_USAGE_BIT_INCORRECT", "")),
        check => {
            let reason = ssl(125, "CERTIFICATE_VERIFY_FAILED", failure.message());
            Failure::new(Counted::Verification(check), reason)
        }
    }
}

/// A failure before there was a ClientHello; `seen` is what came instead.
pub fn of_hello(error: &Error, seen: &[u8]) -> Failure {
    let begins = |method: &&[u8]| seen.starts_with(method);
    let plaintext_http = [&b"GET "[..], b"POST ", b"HEAD ", b"PUT "].iter().any(begins);
    let reason = if plaintext_http {
        ssl(156, "HTTP_REQUEST", "")
    } else if seen.starts_with(b"CONNE") {
        ssl(155, "HTTPS_PROXY_REQUEST", "")
    } else if seen.get(1).is_some_and(|major| *major != 3) {
        ssl(247, "WRONG_VERSION_NUMBER", "")
    } else {
        of_error(error).unwrap_or_else(|| ssl(131, "CLIENTHELLO_PARSE_FAILED", ""))
    };
    Failure { plaintext_http, ..Failure::new(Counted::ConnectionError, reason) }
}

/// The reason for an error that reading or writing an established TLS connection gave, if TLS is to blame: a client learns only
/// then that a TLS 1.3 server refused its certificate.
pub fn of_io_error(error: &io::Error) -> Option<Cow<'static, str>> {
    tls_error(error).map(|error| Cow::Owned(of_error(error).unwrap_or_else(|| in_own_words(error))))
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(error: &Error, handshake: &Handshake) -> Failure {
    match (error, &handshake.failure) {
        (Error::NoCertificatesPresented, _) => {
            let detail = "peer did not provide required client certificate";
            let reason = ssl(192, "PEER_DID_NOT_RETURN_A_CERTIFICATE", detail);
            Failure::new(Counted::Verification(FailedCheck::NoCertificate), reason)
        }
        (Error::InvalidCertificate(_), Some(failure)) => of_verification(failure),
        _ => Failure::new(Counted::ConnectionError, of_error(error).unwrap_or_else(|| in_own_words(error))),
    }
}

fn of_error(error: &Error) -> Option<String> {
    use PeerIncompatible as P;
    let (number, name) = match error {
        Error::AlertReceived(alert) => {
            return alert_name(*alert).map(|name| ssl(1000 + u32::from(u8::from(*alert)), name, ""));
        }
        Error::PeerIncompatible(
            P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
            | P::SupportedVersionsExtensionRequired
            | P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig,
        ) => (240, "UNSUPPORTED_PROTOCOL"),
        Error::PeerIncompatible(P::NoCipherSuitesInCommon) => (184, "NO_SHARED_CIPHER"),
        Error::PeerIncompatible(P::NoKxGroupsInCommon) => (266, "NO_SHARED_GROUP"),
        Error::PeerIncompatible(P::NoSignatureSchemesInCommon | P::SignatureAlgorithmsExtensionRequired) => {
            (253, "NO_COMMON_SIGNATURE_ALGORITHMS")
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            (247, "WRONG_VERSION_NUMBER")
        }
        _ => return None,
    };
    Some(ssl(number, name, ""))
}

fn of_socket(error: &io::Error) -> Failure {
    match (error.kind(), error.raw_os_error().and_then(|number| u32::try_from(number).ok())) {
        (_, Some(number)) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            let reason = format!("TLS_error:|{}:system library:OPENSSL_internal:{text}:TLS_error_end", SYS + number);
            Failure::new(Counted::Nothing, reason)
        }
        _ => Failure::peer_gone(),
    }
}

fn ssl(number: u32, name: &str, detail: &str) -> String {
    let colon = if detail.is_empty() { "" } else { ":" };
    format!("TLS_error:|{}:SSL routines:OPENSSL_internal:{name}{colon}{detail}:TLS_error_end", SSL + number)
}

fn in_own_words(error: &Error) -> String {
    format!("TLS_error:|{error}:TLS_error_end")
}

/// BoringSSL's name for an alert that the peer sent.
fn alert_name(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as A;
    Some(match alert {
        A::UnexpectedMessage => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        A::BadRecordMac => "SSLV3_ALERT_BAD_RECORD_MAC",
        A::RecordOverflow => "TLSV1_ALERT_RECORD_OVERFLOW",
        A::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        A::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        A::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        A::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        A::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        A::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        A::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        A::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        A::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        A::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        A::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        A::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        A::InsufficientSecurity => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        A::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        A::InappropriateFallback => "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
        A::UserCanceled => "TLSV1_ALERT_USER_CANCELLED",
        A::NoRenegotiation => "TLSV1_ALERT_NO_RENEGOTIATION",
        A::UnsupportedExtension => "TLSV1_ALERT_UNSUPPORTED_EXTENSION",
        A::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        A::BadCertificateStatusResponse => "TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE",
        A::BadCertificateHashValue => "TLSV1_ALERT_BAD_CERTIFICATE_HASH_VALUE",
        A::UnknownPSKIdentity => "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY",
        A::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        A::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Each was printed by Envoy 1.40.
    #[test]
    fn reasons_are_envoys() {
        let reason = |error: Error| of_handshake(&wrapped(error), &Handshake::default()).into_reason().into_owned();
        assert_eq!(
            reason(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)),
            "TLS_error:|268435696:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL:TLS_error_end"
        );
        assert_eq!(
            reason(Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon)),
            "TLS_error:|268435722:SSL routines:OPENSSL_internal:NO_SHARED_GROUP:TLS_error_end"
        );
        assert_eq!(
            reason(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon)),
            "TLS_error:|268435640:SSL routines:OPENSSL_internal:NO_SHARED_CIPHER:TLS_error_end"
        );
        assert_eq!(
            reason(Error::AlertReceived(AlertDescription::HandshakeFailure)),
            "TLS_error:|268436496:SSL routines:OPENSSL_internal:SSLV3_ALERT_HANDSHAKE_FAILURE:TLS_error_end"
        );
        assert_eq!(
            reason(Error::AlertReceived(AlertDescription::ProtocolVersion)),
            "TLS_error:|268436526:SSL routines:OPENSSL_internal:TLSV1_ALERT_PROTOCOL_VERSION:TLS_error_end"
        );
        assert_eq!(
            reason(Error::NoCertificatesPresented),
            "TLS_error:|268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:\
             peer did not provide required client certificate:TLS_error_end"
        );
        let reset = of_handshake(&io::Error::from_raw_os_error(104), &Handshake::default());
        assert_eq!(reset.counted(), Counted::Nothing);
        assert_eq!(
            reset.into_reason(),
            "TLS_error:|33554536:system library:OPENSSL_internal:Connection reset by peer:TLS_error_end"
        );
        let gone = of_handshake(&io::ErrorKind::UnexpectedEof.into(), &Handshake::default());
        assert_eq!((gone.counted(), &*gone.into_reason()), (Counted::Nothing, ""));
    }

    #[test]
    fn what_is_no_hello_is_told_apart() {
        let of = |seen: &[u8]| {
            let failure = of_hello(&Error::InvalidMessage(InvalidMessage::MissingData("x")), seen);
            (failure.is_plaintext_http(), failure.into_reason().split(':').nth(4).unwrap().to_owned())
        };
        assert_eq!(of(b"GET / HTTP/1.1\r\n"), (true, "HTTP_REQUEST".into()));
        assert_eq!(of(b"CONNECT a:443 HTTP/1.1\r\n"), (false, "HTTPS_PROXY_REQUEST".into()));
        assert_eq!(of(&[0; 64]), (false, "WRONG_VERSION_NUMBER".into()));
        assert_eq!(of(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]), (false, "CLIENTHELLO_PARSE_FAILED".into()));
    }

    #[test]
    fn an_error_of_an_established_connection_is_explained() {
        let alert = wrapped(Error::AlertReceived(AlertDescription::CertificateRequired));
        assert!(
            of_io_error(&alert)
                .unwrap()
                .contains("268436572:SSL routines:OPENSSL_internal:TLSV1_ALERT_CERTIFICATE_REQUIRED")
        );
        assert_eq!(of_io_error(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
