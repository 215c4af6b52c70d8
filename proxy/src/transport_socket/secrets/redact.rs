//! Secrets as they may be shown.

use bytes::Bytes;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::data_source::Specifier;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::secret::Type;

const REDACTED: &str = "[redacted]";

/// The secret with everything blacked out that Envoy's API marks as sensitive: what `/config_dump` may keep. Names of files are
/// blacked out too where they stand for something sensitive, as in Envoy.
pub fn redacted(secret: &proto::Secret) -> proto::Secret {
    let mut secret = secret.clone();
    match &mut secret.r#type {
        Some(Type::TlsCertificate(certificate)) => {
            for source in [&mut certificate.private_key, &mut certificate.pkcs12, &mut certificate.password] {
                source.iter_mut().for_each(black_out);
            }
            if let Some(provider) = &mut certificate.private_key_provider {
                provider.config_type = None; // of a type unknown here, which may hold a key
            }
        }
        Some(Type::SessionTicketKeys(keys)) => keys.keys.iter_mut().for_each(black_out),
        Some(Type::GenericSecret(generic)) => {
            generic.secret.iter_mut().chain(generic.secrets.values_mut()).for_each(black_out);
        }
        Some(Type::ValidationContext(_)) | None => {}
    }
    secret
}

fn black_out(source: &mut core::DataSource) {
    match &mut source.specifier {
        Some(Specifier::InlineBytes(bytes)) => *bytes = Bytes::from_static(REDACTED.as_bytes()),
        Some(Specifier::Filename(text) | Specifier::InlineString(text) | Specifier::EnvironmentVariable(text)) => {
            REDACTED.clone_into(text);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::config::testing::from_yaml;

    #[test]
    fn nothing_sensitive_is_left() {
        for yaml in [
            "{name: a, tls_certificate: {certificate_chain: {inline_string: public}, private_key: {inline_string: hush}}}",
            "{name: a, tls_certificate: {certificate_chain: {inline_string: public}, private_key: {inline_bytes: aHVzaA==}}}",
            "{name: a, tls_certificate: {certificate_chain: {inline_string: public}, pkcs12: {inline_bytes: aHVzaA==}, \
             password: {inline_string: hush}}}",
            "{name: public, session_ticket_keys: {keys: [{inline_string: hush}, {inline_bytes: aHVzaA==}]}}",
            "{name: public, generic_secret: {secret: {inline_string: hush}}}",
            "{name: public, generic_secret: {secrets: {a: {inline_string: hush}}}}",
        ] {
            let secret: proto::Secret = from_yaml(yaml);
            let bytes = |secret: &proto::Secret| String::from_utf8_lossy(&secret.encode_to_vec()).into_owned();
            let shown = bytes(&redacted(&secret));
            assert!(bytes(&secret).contains("hush"), "{yaml}");
            assert!(!shown.contains("hush") && shown.contains("public") && shown.contains(REDACTED), "{shown}");
        }
    }
}
