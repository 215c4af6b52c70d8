//! `path_config_source`: formats, moves, swaps of symbolic links, and files that cannot be used.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Task, Teller, run};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use xds_client::session::Event;
use xds_client::watch::Watcher;
use xds_client::{FileSource, Rejected, StreamEvent, Subscriptions, TypeUrl, Update};
use xds_protos::Message;
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::service::discovery::v3::DiscoveryResponse;

fn yaml(version: &str, names: &[&str]) -> String {
    let cluster = |name: &&str| format!("- {{\"@type\": {}, name: {name}, connect_timeout: 1s}}\n", TypeUrl::CLUSTER);
    format!("version_info: \"{version}\"\nresources:\n{}", names.iter().map(cluster).collect::<String>())
}

fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(&beside, path).unwrap();
}

struct Follower {
    heard: UnboundedReceiver<Event>,
    subscriptions: Subscriptions,
    _task: Task,
}

fn follow(source: FileSource) -> Follower {
    let (subscriptions, commands) = Subscriptions::new();
    let (sender, heard) = unbounded_channel();
    let handler = Teller { heard: sender, reject: |_: &Update| Vec::<Rejected>::new() };
    let task = tokio::task::spawn_local(async move {
        source.run(commands, handler).await;
    });
    Follower { heard, subscriptions, _task: Task(task) }
}

impl Follower {
    async fn names(&mut self) -> Vec<String> {
        match self.heard.recv().await.unwrap() {
            Event::Update(update) => update.added.into_iter().map(|it| it.name).collect(),
            event => panic!("{event:?}"),
        }
    }

    async fn problem(&mut self) -> String {
        match self.heard.recv().await.unwrap() {
            Event::Stream(StreamEvent::Disconnected { reason, .. } | StreamEvent::Refused { reason, .. }) => reason,
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn a_moved_file_is_read_again_and_a_bad_one_changes_nothing() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cds.yaml");
        fs::write(&path, yaml("1", &["a"])).unwrap();
        let mut it = follow(FileSource::new(TypeUrl::CLUSTER, &path));
        it.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        assert_eq!(it.names().await, ["a"]);
        replace(&path, "resources: {");
        assert!(it.problem().await.contains("cds.yaml:1:"));
        replace(&path, yaml("2", &["b", "b"]));
        assert!(it.problem().await.contains("duplicate name b"));
        replace(&path, yaml("3", &["a", "c"]));
        assert_eq!(it.names().await, ["a", "c"]);
        fs::remove_file(&path).unwrap();
        replace(&path, yaml("4", &[]));
        assert!(it.names().await.is_empty());
    });
}

#[test]
fn the_extension_tells_the_format() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster { name: "p".into(), ..Cluster::default() };
        let any = prost_types::Any { type_url: TypeUrl::CLUSTER.as_str().into(), value: cluster.encode_to_vec() };
        let binary = DiscoveryResponse { resources: vec![any], ..DiscoveryResponse::default() }.encode_to_vec();
        let json = format!(r#"{{"resources": [{{"@type": "{}", "name": "j"}}]}}"#, TypeUrl::CLUSTER);
        for (name, content, expected) in [
            ("c.pb", binary, "p"),
            ("c.json", json.clone().into_bytes(), "j"),
            ("c", json.into_bytes(), "j"),
            ("c.YML", yaml("1", &["yml"]).into_bytes(), "yml"),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            let mut it = follow(FileSource::new(TypeUrl::CLUSTER, &path));
            it.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
            assert_eq!(it.names().await, [expected], "{name}");
        }
        let path = dir.path().join("c.pb_text");
        fs::write(&path, "").unwrap();
        assert!(FileSource::new(TypeUrl::CLUSTER, &path).read().err().unwrap().contains("not supported"));
    });
}

#[test]
fn a_swapped_link_in_the_watched_directory_is_followed() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let version = |number: &str, names: &[&str]| {
            fs::create_dir(dir.path().join(number)).unwrap();
            fs::write(dir.path().join(number).join("cds.yaml"), yaml(number, names)).unwrap();
        };
        version("1", &["a"]);
        std::os::unix::fs::symlink("1", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/cds.yaml", dir.path().join("cds.yaml")).unwrap();
        let watcher = Watcher::new().unwrap();
        let running = watcher.clone();
        let _run = Task(tokio::task::spawn_local(async move {
            let _ = running.run().await;
        }));
        let source = FileSource::new(TypeUrl::CLUSTER, dir.path().join("cds.yaml")).watched_directory(dir.path());
        let mut it = follow(source.watcher(watcher));
        it.subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        assert_eq!(it.names().await, ["a"]);
        version("2", &["b"]);
        std::os::unix::fs::symlink("2", dir.path().join("..new")).unwrap();
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        assert_eq!(it.names().await, ["b"]);
    });
}

#[test]
fn only_what_is_wanted_and_names_that_are_wanted_later() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cds.yaml");
        let mut it = follow(FileSource::new(TypeUrl::CLUSTER, &path));
        it.subscriptions.subscribe(TypeUrl::CLUSTER, "b", Duration::ZERO);
        assert!(it.problem().await.contains("cannot read"));
        replace(&path, yaml("1", &["a", "b"]));
        assert_eq!(it.names().await, ["b"]);
        it.subscriptions.subscribe(TypeUrl::CLUSTER, "a", Duration::ZERO);
        assert_eq!(it.names().await, ["a", "b"]);
    });
}
