//! The management server of another make: `go/`, on go-control-plane's snapshot cache. Built once a run, when there is a Go.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;

use base64::Engine;
use serde_json::Value;
use tests::{PATIENCE, wait_for};
use xds_protos::{encode, text};

/// What the server printed, a JSON object each.
type Events = Arc<Mutex<Vec<Value>>>;

/// One process of it. Ends with the value.
pub struct Server {
    pub port: u16,
    child: Child,
    snapshots: ChildStdin,
    printed: Events,
    reader: Option<JoinHandle<()>>,
}

/// The binary, built; `None` without a Go to build it, which is said once.
pub fn binary() -> Option<&'static Path> {
    static BUILT: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/xds/go");
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("management-server");
        let mut build = Command::new("go");
        build.args(["build", "-buildvcs=false", "-o"]).arg(&output).arg(".").current_dir(source);
        let built = build.output();
        match built {
            Err(_) => {
                tests::skipped("a management server of another make", "install Go to build it");
                None
            }
            Ok(built) if !built.status.success() => panic!("go build: {}", String::from_utf8_lossy(&built.stderr)),
            Ok(_) => Some(output),
        }
    });
    BUILT.as_deref()
}

/// A port that nobody has at the moment, below those that the system gives to whoever asks: it stays free until it is used.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(31);
    let candidates = std::iter::repeat_with(|| {
        let offset = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
        12_000 + u16::try_from(offset).expect("less than 20,000")
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(20_000).find(is_free).expect("a free port")
}

impl Server {
    /// Starts it, listening, with what it has to serve at first.
    pub fn start(binary: &Path, delta: bool, port: u16, version: &str, resources: &[String]) -> Server {
        let mut command = Command::new(binary);
        command.arg(format!("-listen=127.0.0.1:{port}")).arg(format!("-delta={delta}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let printed = Events::default();
        let reader = std::thread::spawn({
            let printed = printed.clone();
            move || {
                for line in output.lines().map_while(Result::ok) {
                    let event = serde_json::from_str(&line).expect("JSON");
                    printed.lock().expect("unpoisoned").push(event);
                }
            }
        });
        let snapshots = child.stdin.take().expect("piped");
        let mut server = Server { port, child, snapshots, printed, reader: Some(reader) };
        server.serve(version, resources);
        server.wait("listening", |event| event["event"] == "listening");
        server
    }

    /// Serves these resources from now on. Each is YAML with an `@type`.
    pub fn serve(&mut self, version: &str, resources: &[String]) {
        let resources: Vec<String> = resources.iter().map(|yaml| any(yaml)).collect();
        let step = serde_json::json!({ "version": version, "resources": resources });
        writeln!(self.snapshots, "{step}").expect("the server runs");
    }

    pub fn events(&self) -> Vec<Value> {
        self.printed.lock().expect("unpoisoned").clone()
    }

    /// Waits for an event, and gives the first.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(PATIENCE, || self.events().into_iter().find(|event| wanted(event)))
            .unwrap_or_else(|| panic!("{what} never came; what came: {:#?}", self.events()))
    }

    /// Waits until the last response of each of these types was answered with ACK or NACK.
    pub fn wait_answered(&self, types: &[&str]) {
        let answered = |kind: &str| {
            let events = self.events();
            let last = events.iter().rfind(|event| event["event"] == "response" && short(event) == kind)?;
            let answers = |event: &Value| {
                event["event"] == "request" && event["type"] == last["type"] && event["nonce"] == last["nonce"]
            };
            events.iter().any(answers).then_some(())
        };
        let all = wait_for(PATIENCE, || types.iter().all(|kind| answered(kind).is_some()).then_some(()));
        assert!(all.is_some(), "{types:?} were not all answered: {:#?}", self.events());
    }

    /// Waits until every response there was is answered.
    pub fn wait_settled(&self) {
        let settled = || {
            let events = self.events();
            let is_answered = |response: &&Value| {
                events.iter().any(|event| {
                    event["event"] == "request"
                        && event["type"] == response["type"]
                        && event["nonce"] == response["nonce"]
                        && event["stream"] == response["stream"]
                })
            };
            events
                .iter()
                .filter(|event| event["event"] == "response")
                .all(|response| is_answered(&response))
                .then_some(())
        };
        assert!(wait_for(PATIENCE, settled).is_some(), "not every response was answered: {:#?}", self.events());
    }

    /// Ends the process, and gives all it printed.
    pub fn stop(mut self) -> Vec<Value> {
        self.end();
        self.events()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last part of a resource type, e.g. `Cluster`.
pub fn short(event: &Value) -> &str {
    event["type"].as_str().and_then(|url| url.rsplit('.').next()).unwrap_or_default()
}

fn any(yaml: &str) -> String {
    let tree = text::parse(yaml, text::Format::Auto).unwrap_or_else(|problem| panic!("{problem}: {yaml}"));
    let options = encode::Options { keep_unknown_any: true, ..encode::Options::default() };
    let encoded = encode::to_wire(tree.root(), "google.protobuf.Any", &options);
    let (wire, _) = encoded.unwrap_or_else(|problems| panic!("{}: {yaml}", problems[0]));
    base64::engine::general_purpose::STANDARD.encode(wire)
}
