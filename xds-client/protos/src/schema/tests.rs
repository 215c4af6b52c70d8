use super::*;

fn message(name: &str) -> Message {
    Message::find(name).unwrap_or_else(|| panic!("{name} is in the schema"))
}

#[test]
fn finds_messages_by_name_and_url() {
    let cluster = message("envoy.config.cluster.v3.Cluster");
    assert_eq!(cluster.full_name(), "envoy.config.cluster.v3.Cluster");
    assert_eq!(cluster.name(), "Cluster");
    assert_eq!(Message::find_url("type.googleapis.com/envoy.config.cluster.v3.Cluster"), Some(cluster));
    assert_eq!(Message::find("envoy.config.cluster.v3.Cluste"), None);
    assert_eq!(Message::find_url("envoy.config.cluster.v3.Cluster"), Some(cluster));
    assert_eq!(Message::find_url("type.googleapis.com/"), None);
    for m in Message::all() {
        assert_eq!(Message::find(m.full_name()), Some(m));
    }
}

#[test]
fn every_field_is_found_by_number_and_by_both_names() {
    let mut seen = 0;
    for m in Message::all() {
        for f in m.fields() {
            assert_eq!(m.field_by_number(f.number()), Some(f), "{f:?}");
            assert_eq!(m.field_by_name(f.name()), Some(f), "{f:?}");
            assert_eq!(m.field_by_name(f.json_name()), Some(f), "{f:?}");
            assert_eq!(f.parent(), m);
            seen += 1;
        }
        assert_eq!(m.field_by_number(0), None);
        assert_eq!(m.field_by_number(u32::MAX), None);
    }
    assert!(seen > 2000, "{seen}");
}

#[test]
fn describes_labels_and_types() {
    let cluster = message("envoy.config.cluster.v3.Cluster");
    let timeout = cluster.field_by_name("connect_timeout").unwrap();
    assert_eq!(timeout.number(), 4);
    assert_eq!(timeout.json_name(), "connectTimeout");
    assert_eq!(timeout.message().unwrap().well_known(), Some(WellKnown::Duration));
    assert!(timeout.has_presence() && !timeout.is_repeated());

    let options = cluster.field_by_name("typedExtensionProtocolOptions").unwrap();
    let (key, value) = options.map_entry().unwrap();
    assert_eq!(key.kind(), Kind::String);
    assert_eq!(value.message().unwrap().well_known(), Some(WellKnown::Any));

    let kind = cluster.field_by_name("type").unwrap();
    assert_eq!(kind.oneof().unwrap().name(), "cluster_discovery_type");
    assert!(!cluster.field_by_name("name").unwrap().has_presence());
    assert!(cluster.field_by_name("hidden_envoy_deprecated_hosts").is_none());

    let codes = message("envoy.config.core.v3.HealthCheck.HttpHealthCheck").field_by_name("codec_client_type").unwrap();
    let Kind::Enum(codec) = codes.kind() else { panic!("an enum") };
    assert_eq!(codec.by_name("HTTP2").unwrap().number, 1);
    assert_eq!(codec.by_number(2).unwrap().name, "HTTP3");
    assert_eq!(codec.by_name("http2"), None);
    assert_eq!(codec.by_number(7), None);
}

#[test]
fn carries_annotations() {
    let certificate = message("envoy.extensions.transport_sockets.tls.v3.TlsCertificate");
    assert!(certificate.field_by_name("private_key").unwrap().is_sensitive());
    assert!(!certificate.field_by_name("certificate_chain").unwrap().is_sensitive());
    assert!(message("envoy.config.core.v3.Address").oneofs().any(|o| o.name() == "address" && o.is_required()));
    assert!(Message::all().flat_map(Message::fields).any(|f| f.is_disallowed_by_default()));
    assert!(Message::all().flat_map(Message::fields).filter(|f| f.is_deprecated()).count() > 20);
    assert!(Message::all().flat_map(Message::fields).filter(|f| f.rules().is_some()).count() > 400);
}

#[test]
fn the_presence_of_an_optional_field_is_not_a_oneof() {
    for o in Message::all().flat_map(Message::oneofs) {
        assert!(!o.name().starts_with('_'), "{o:?}");
    }
}

#[test]
fn the_tables_stay_small() {
    assert!(ROWS.len() + TEXT.len() < 400 * 1024, "{} + {}", ROWS.len(), TEXT.len());
}
