use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::control_plane::ControlPlane;
use super::identities::Authority;
use super::{apps, mesh};

/// The proxies, and their configurations as they stand in the repository.
const PROXIES: [(&str, &str); 3] = [
    ("order-service", include_str!("../../demo/order-service.yaml")),
    ("store-front", include_str!("../../demo/store-front.yaml")),
    ("gateway", include_str!("../../demo/gateway.yaml")),
];

/// The ports of the configuration files, by what they are for.
const PORTS: [(&str, u16); 14] = [
    ("gateway http", 18000),
    ("gateway tcp", 18001),
    ("gateway admin", 18090),
    ("store-front inbound", 18010),
    ("store-front outbound", 18011),
    ("store-front admin", 18091),
    ("store-front app", 18110),
    ("order-service inbound", 18020),
    ("order-service tcp inbound", 18021),
    ("order-service admin", 18092),
    ("order-service app", 18120),
    ("order-service tcp app", 18121),
    // Of what the control plane deploys later.
    ("order-service v2 inbound", 18022),
    ("order-service v2 app", 18122),
];

/// The running demo.
pub struct Topology {
    ports: HashMap<&'static str, u16>,
    proxies: Vec<(&'static str, Child)>,
    pub control_plane: ControlPlane,
    /// Whether the proxies' access logs are printed.
    pub echo: Rc<Cell<bool>>,
    folder: Folder,
}

impl Topology {
    /// Starts applications and proxies, and waits until all are ready.
    pub async fn start() -> Result<Self, String> {
        let folder = Folder::new()?;
        let authority = Authority::new()?;
        authority.write(&folder.0.join("certs"))?;
        let ports = free_ports()?;
        let port = |name: &str| ports.get(name).copied().unwrap_or(0);
        apps::store_front(port("store-front app"), port("store-front outbound")).await?;
        apps::order_service(port("order-service app"), "v1").await?;
        apps::order_service(port("order-service v2 app"), "v2").await?;
        apps::tcp_echo(port("order-service tcp app")).await?;
        let control_plane = ControlPlane::new(authority);
        let echo = Rc::new(Cell::new(false));
        let mut topology =
            Topology { ports: ports.clone(), proxies: Vec::new(), control_plane, echo: echo.clone(), folder };
        for (name, configuration) in PROXIES {
            let write = |file: &Path, text: String| {
                fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
            };
            let in_folder = |end: &str| topology.folder.0.join(format!("{name}{end}"));
            let (resources, bootstrap, socket) = (in_folder(".yaml"), in_folder("-bootstrap.yaml"), in_folder(".xds"));
            write(&resources, with_ports(configuration, &ports))?;
            write(&bootstrap, mesh::bootstrap(name, port(&format!("{name} admin")), &socket))?;
            topology.control_plane.serve(name, &resources, &socket)?;
            topology.proxies.push((name, spawn(name, &bootstrap, &echo)?));
        }
        for name in ["order-service admin", "store-front admin", "gateway admin"] {
            topology.wait_ready(name, port(name)).await?;
        }
        Ok(topology)
    }

    pub fn port(&self, name: &str) -> u16 {
        self.ports.get(name).copied().unwrap_or(0)
    }

    async fn wait_ready(&mut self, name: &str, port: u16) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            if is_ready(port).await {
                return Ok(());
            }
            for (proxy, child) in &mut self.proxies {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(format!("the proxy {proxy} ended at start: {status}"));
                }
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!("{name} (port {port}) did not become ready in 20 s"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What runs where, and what to try.
    pub fn describe(&self) {
        let (http, tcp) = (self.port("gateway http"), self.port("gateway tcp"));
        println!(
            "
  you ──HTTP──▶ gateway 127.0.0.1:{http} ──mTLS──▶ sidecar ▶ store-front ▶ sidecar ──mTLS──▶ sidecar ▶ order-service
                                 └─────────────mTLS (HTTP, gRPC, WebSocket)────────────▶ sidecar ▶ order-service
  you ──TCP───▶ gateway 127.0.0.1:{tcp} ──mTLS──▶ sidecar ▶ order-service (echo)

  A page that shows the path a request took:   http://127.0.0.1:{http}/
  Try:
    curl -i http://127.0.0.1:{http}/orders
    curl -i --http2-prior-knowledge http://127.0.0.1:{http}/orders
    curl -i http://127.0.0.1:{sidecar}/            # a STRICT sidecar refuses plaintext
    printf 'hello\\n' | nc -q1 127.0.0.1 {tcp}
    curl http://127.0.0.1:{admin}/clusters         # also /stats /config_dump /certs /help
  A control plane inside this process delivers all of it over xDS. The same as files, which a real Envoy
  runs too, from that folder: {folder}
",
            sidecar = self.port("store-front inbound"),
            admin = self.port("gateway admin"),
            folder = self.folder.0.display(),
        );
    }

    /// The name of the first proxy that ends by itself.
    pub async fn unexpected_exit(&mut self) -> &'static str {
        loop {
            for (name, child) in &mut self.proxies {
                if !matches!(child.try_wait(), Ok(None)) {
                    return name;
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Asks the proxies to drain and waits for them. False when one did not end cleanly in time.
    pub async fn stop(&mut self, within: Duration) -> bool {
        let mut clean = true;
        for (name, child) in self.proxies.iter_mut().rev() {
            if let Some(id) = child.id() {
                crate::sys::terminate(id);
            }
            match tokio::time::timeout(within, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(Ok(status)) => {
                    eprintln!("{name} ended with {status}");
                    clean = false;
                }
                Ok(Err(_)) | Err(_) => {
                    eprintln!("{name} did not drain within {} s", within.as_secs());
                    let _ = child.kill().await;
                    clean = false;
                }
            }
        }
        clean
    }
}

fn spawn(name: &'static str, configuration: &Path, echo: &Rc<Cell<bool>>) -> Result<Child, String> {
    let binary = std::env::current_exe().map_err(|e| format!("cannot find this binary: {e}"))?;
    let mut child = Command::new(binary)
        .arg("-c")
        .arg(configuration)
        .args(["--concurrency", "1", "-l", "warning", "--drain-time-s", "5", "--file-flush-interval-msec", "50"])
        .current_dir(configuration.parent().unwrap_or(Path::new(".")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("cannot start the proxy {name}: {e}"))?;
    if let Some(out) = child.stdout.take() {
        tokio::task::spawn_local(pass_on(name, out, echo.clone()));
    }
    if let Some(err) = child.stderr.take() {
        tokio::task::spawn_local(pass_on(name, err, Rc::new(Cell::new(true))));
    }
    Ok(child)
}

async fn pass_on(name: &'static str, from: impl AsyncRead + Unpin, echo: Rc<Cell<bool>>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if echo.get() {
            println!("[{name:>13}] {line}");
        }
    }
}

async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}

/// Ports that are free now; held until all are known, so that they differ.
fn free_ports() -> Result<HashMap<&'static str, u16>, String> {
    let mut held = Vec::new();
    let mut ports = HashMap::new();
    for (name, _) in PORTS {
        let listener = StdListener::bind(("127.0.0.1", 0)).map_err(|e| format!("no free port: {e}"))?;
        ports.insert(name, listener.local_addr().map_err(|e| e.to_string())?.port());
        held.push(listener);
    }
    Ok(ports)
}

fn with_ports(configuration: &str, ports: &HashMap<&'static str, u16>) -> String {
    PORTS.iter().fold(configuration.to_owned(), |text, (name, written)| {
        let chosen = ports.get(name).copied().unwrap_or(*written);
        text.replace(&format!("port_value: {written} "), &format!("port_value: {chosen} "))
    })
}

/// A temporary folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("outrigger-demo-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
