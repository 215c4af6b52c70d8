use std::fs;

use certs::testing::{Ca, Leaf};
use tempfile::TempDir;
use xds_protos::envoy::config::core::v3::config_source::ConfigSourceSpecifier;

use super::*;
use crate::server::ServerOptions;
use crate::transport_socket::SecretKind;

fn source() -> core::ConfigSource {
    let specifier = ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {});
    core::ConfigSource { config_source_specifier: Some(specifier), ..Default::default() }
}

fn file(path: PathBuf) -> Option<core::DataSource> {
    let specifier = Some(Specifier::Filename(path.to_str().unwrap().to_owned()));
    Some(core::DataSource { watched_directory: None, specifier })
}

/// A key pair in `files`, and what delivers it.
struct World {
    secrets: SecretManager,
    stats: Stats,
    files: TempDir,
}

impl World {
    fn new() -> Self {
        let stats = Stats::new(ServerOptions::default().concurrency);
        World { secrets: SecretManager::default(), stats, files: TempDir::new().unwrap() }
    }

    /// Puts a file in place of another by a move.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.files.path().join("new"), text).unwrap();
        fs::rename(self.files.path().join("new"), self.files.path().join(name)).unwrap();
    }

    fn put_pair(&self, leaf: &Leaf) {
        self.put("cert.pem", &leaf.chain_pem());
        self.put("key.pem", &leaf.key_pem);
    }

    fn certificate(&self, watched: Option<core::WatchedDirectory>) -> proto::Secret {
        let certificate = proto::TlsCertificate {
            certificate_chain: file(self.files.path().join("cert.pem")),
            private_key: file(self.files.path().join("key.pem")),
            watched_directory: watched,
            ..Default::default()
        };
        proto::Secret { name: "own".into(), r#type: Some(Type::TlsCertificate(certificate)) }
    }

    fn deliver(&self, secret: &proto::Secret) {
        self.secrets.set(&self.secrets.demanded()[0], secret, &Path::root("s")).unwrap();
    }

    /// Follows the files until `done`.
    async fn follow_until(&self, done: impl Fn() -> bool) {
        let follow = self.secrets.follow_files(&self.stats);
        let mut follow = pin!(follow);
        std::future::poll_fn(|cx| {
            assert!(follow.as_mut().poll(cx).is_pending());
            if done() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref(); // what is done by others wakes nobody here
            Poll::Pending
        })
        .await;
    }

    fn failed(&self) -> u64 {
        self.stats.block::<SecretStats>("sds.own").read(SecretStats::KEY_ROTATION_FAILED)
    }
}

fn subject(slot: &SecretSlot<certs::material::TlsCertificate>) -> String {
    slot.get().unwrap().leaf().unwrap().subject().to_owned()
}

#[tokio::test]
async fn a_pair_that_is_replaced_file_by_file_is_loaded_once_it_fits() {
    let (ca, world) = (Ca::new("root"), World::new());
    let slot = world.secrets.dynamic_certificate("own", &source());
    world.put_pair(&ca.leaf().cn("first").build());
    world.deliver(&world.certificate(None));
    let counters: StatBlock<SecretStats> = world.stats.block("sds.own");
    let second = ca.leaf().cn("second").build();
    tokio::join!(world.follow_until(|| subject(&slot) == "CN=second"), async {
        world.put("cert.pem", &second.chain_pem());
        tokio::task::yield_now().await;
        while world.failed() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(subject(&slot), "CN=first", "half a pair is none");
        world.put("key.pem", &second.key_pem);
    });
    assert_eq!((subject(&slot).as_str(), counters.read(SecretStats::KEY_ROTATION_FAILED)), ("CN=second", 1));
}

#[tokio::test]
async fn a_move_before_anybody_follows_is_not_lost() {
    let (ca, world) = (Ca::new("root"), World::new());
    let slot = world.secrets.dynamic_certificate("own", &source());
    world.put_pair(&ca.leaf().cn("first").build());
    world.deliver(&world.certificate(None));
    world.put_pair(&ca.leaf().cn("second").build());
    assert_eq!(subject(&slot), "CN=first");
    world.follow_until(|| subject(&slot) == "CN=second").await;
}

#[tokio::test]
async fn a_watched_directory_stands_in_for_those_of_the_files() {
    let (ca, world) = (Ca::new("root"), World::new());
    let slot = world.secrets.dynamic_certificate("own", &source());
    let data = TempDir::new().unwrap();
    let watched = core::WatchedDirectory { path: data.path().to_str().unwrap().into(), watch_modify: false };
    world.put_pair(&ca.leaf().cn("first").build());
    world.deliver(&world.certificate(Some(watched)));
    let swap = || {
        std::os::unix::fs::symlink("x", data.path().join("tmp")).unwrap();
        fs::rename(data.path().join("tmp"), data.path().join("..data")).unwrap();
    };
    tokio::join!(world.follow_until(|| subject(&slot) == "CN=second"), async {
        tokio::task::yield_now().await;
        world.put_pair(&ca.leaf().cn("second").build());
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(subject(&slot), "CN=first", "nothing has moved where it counts");
        swap();
    });
}

#[tokio::test]
async fn an_edit_in_place_counts_where_it_is_asked_for() {
    let (ca, world) = (Ca::new("root"), World::new());
    let slot = world.secrets.dynamic_certificate("own", &source());
    let path = world.files.path().to_str().unwrap().to_owned();
    world.put_pair(&ca.leaf().cn("first").build());
    world.deliver(&world.certificate(Some(core::WatchedDirectory { path, watch_modify: true })));
    tokio::join!(world.follow_until(|| subject(&slot) == "CN=second"), async {
        tokio::task::yield_now().await;
        let second = ca.leaf().cn("second").build();
        fs::write(world.files.path().join("cert.pem"), second.chain_pem()).unwrap();
        fs::write(world.files.path().join("key.pem"), &second.key_pem).unwrap();
    });
}

#[tokio::test]
async fn a_revocation_list_in_a_file_is_followed() {
    let (ca, world) = (Ca::new("root"), World::new());
    let slot = world.secrets.dynamic_validation_context("own", &source());
    let leaf = ca.leaf().build();
    world.put("crl.pem", &ca.crl_pem(&[], 2049));
    let trusted_ca =
        Some(core::DataSource { watched_directory: None, specifier: Some(Specifier::InlineString(ca.pem())) });
    let context = proto::CertificateValidationContext {
        trusted_ca,
        crl: file(world.files.path().join("crl.pem")),
        ..Default::default()
    };
    let secret = proto::Secret { name: "own".into(), r#type: Some(Type::ValidationContext(context)) };
    world.deliver(&secret);
    let (first, version) = (slot.get().unwrap(), slot.version());
    world.put("crl.pem", &ca.crl_pem(&[&leaf], 2049));
    world.follow_until(|| slot.version() > version).await;
    assert!(!Arc::ptr_eq(&first, &slot.get().unwrap()));

    fs::remove_file(world.files.path().join("crl.pem")).unwrap();
    let kept = slot.get().unwrap();
    let counters: StatBlock<SecretStats> = world.stats.block("sds.own");
    tokio::join!(world.follow_until(|| counters.read(SecretStats::KEY_ROTATION_FAILED) > 0), async {
        tokio::task::yield_now().await;
        world.put("something-else", "");
    });
    assert!(Arc::ptr_eq(&kept, &slot.get().unwrap()), "a file that is gone leaves the secret");
}

#[tokio::test]
async fn files_are_forgotten_with_the_last_user_and_with_the_next_delivery() {
    let (ca, world) = (Ca::new("root"), World::new());
    let slot = world.secrets.dynamic_certificate("own", &source());
    let leaf = ca.leaf().build();
    world.put_pair(&leaf);
    world.deliver(&world.certificate(None));
    let followed = || world.secrets.files.lock().len();
    assert_eq!(followed(), 1);
    let inline = |text: String| {
        Some(core::DataSource { watched_directory: None, specifier: Some(Specifier::InlineString(text)) })
    };
    let certificate = proto::TlsCertificate {
        certificate_chain: inline(leaf.chain_pem()),
        private_key: inline(leaf.key_pem.clone()),
        ..Default::default()
    };
    world.deliver(&proto::Secret { name: "own".into(), r#type: Some(Type::TlsCertificate(certificate)) });
    assert_eq!(followed(), 0);
    world.deliver(&world.certificate(None));
    assert_eq!((followed(), world.secrets.demanded()[0].kind), (1, SecretKind::TlsCertificate));
    drop(slot);
    world.follow_until(|| followed() == 0).await;
}

#[tokio::test]
async fn a_bundle_map_is_followed_and_a_broken_one_passed_over() {
    let (a, b, world) = (Ca::new("a"), Ca::new("b"), World::new());
    let map = |ca: &Ca| {
        let key = format!("{{\"use\": \"x509-svid\", \"x5c\": [\"{}\"]}}", ca.der_base64());
        format!("{{\"trust_domains\": {{\"cluster.local\": {{\"keys\": [{key}]}}}}}}")
    };
    world.put("map.json", &map(&a));
    let file = world.files.path().join("map.json");
    let domains = TrustDomains::from_bundle_map(map(&a).as_bytes(), "").unwrap();
    let slot = SecretSlot::filled("", Arc::new(domains));
    world.secrets.follow_bundles(&file, map(&a).as_bytes(), &slot);
    let trusted = || slot.get().unwrap().bundles().next().unwrap().1.certificates()[0].subject().to_owned();
    tokio::join!(world.follow_until(|| trusted() == "CN=b"), async {
        tokio::task::yield_now().await;
        world.put("map.json", "{}");
        tokio::task::yield_now().await;
        assert_eq!(trusted(), "CN=a");
        world.put("map.json", &map(&b));
    });
    drop(slot);
    world.secrets.files_changed.send_modify(|n| *n += 1);
    world.follow_until(|| world.secrets.bundles.lock().is_empty()).await;
}
