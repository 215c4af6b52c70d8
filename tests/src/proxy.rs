//! A running proxy process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::client::Response;
use crate::{PATIENCE, wait_for};

/// A proxy with a configuration. Ends with the value.
pub struct Proxy {
    child: Child,
    /// Ports of the listeners by name.
    pub ports: BTreeMap<String, u16>,
    pub admin: u16,
    pub folder: TempDir,
}

/// How a proxy is started, when not in the usual way.
#[derive(Default)]
pub struct Options<'a> {
    /// More arguments, after the usual ones.
    pub arguments: &'a [&'a str],
    /// Soft and hard limit of open files.
    pub open_files: Option<u64>,
    /// Group of the process; root alone can choose.
    pub group: Option<u32>,
    /// Variables of the process's environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// Ready may mean less than LIVE, e.g. when the configuration has no listeners that can open.
    pub without_listeners: bool,
    /// Started is enough: the admin interface answers. For configuration that is still to come.
    pub not_ready: bool,
}

impl Proxy {
    /// Starts `binary` with `config` and waits until it is ready. `{tmp}` in the configuration is a folder of this proxy's own.
    ///
    /// Ports are asked for as 0; [`Proxy::port`] tells which ones they became.
    pub fn start(binary: impl AsRef<Path>, config: &str) -> Proxy {
        Self::start_with(binary, config, &Options::default())
    }

    pub fn start_with(binary: impl AsRef<Path>, config: &str, options: &Options<'_>) -> Proxy {
        Self::try_start(binary.as_ref(), config, options).unwrap_or_else(|why| panic!("{why}"))
    }

    /// # Errors
    /// What the process printed, when it ended or did not become ready.
    pub fn try_start(binary: &Path, config: &str, options: &Options<'_>) -> Result<Proxy, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config.replace("{tmp}", &folder.path().display().to_string())).expect("written");
        let mut command = command(binary, &file, folder.path(), options);
        let child = command.spawn().map_err(|e| format!("{}: {e}", binary.display()))?;
        let mut proxy = Proxy { child, ports: BTreeMap::new(), admin: 0, folder };
        let ended = wait_for(2 * PATIENCE, || {
            if let Ok(Some(status)) = proxy.child.try_wait() {
                return Some(Err(format!("the proxy ended with {status}:\n{}", proxy.log())));
            }
            proxy.admin = proxy.admin_port()?;
            let ready = |response: &Response| response.status == 200 || options.not_ready;
            proxy.try_admin("GET", "/ready").filter(ready).map(|_| Ok(()))
        });
        ended.unwrap_or_else(|| Err(format!("not ready in time:\n{}", proxy.log())))?;
        if !options.without_listeners && !options.not_ready {
            proxy.ports = proxy.listener_ports();
        }
        Ok(proxy)
    }

    fn admin_port(&self) -> Option<u16> {
        let text = std::fs::read_to_string(self.folder.path().join("admin")).ok()?;
        text.trim().rsplit_once(':')?.1.parse().ok()
    }

    fn listener_ports(&self) -> BTreeMap<String, u16> {
        let text = self.admin("/listeners?format=json").text();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("/listeners: {e}: {text}"));
        let of = |listener: &Value| {
            let port = listener.pointer("/local_address/socket_address/port_value")?.as_u64()?;
            Some((listener.get("name")?.as_str()?.to_owned(), u16::try_from(port).ok()?))
        };
        value["listener_statuses"].as_array().into_iter().flatten().filter_map(of).collect()
    }

    /// The port of the listener of this name.
    pub fn port(&self, listener: &str) -> u16 {
        *self.ports.get(listener).unwrap_or_else(|| panic!("no listener {listener}: {:?}\n{}", self.ports, self.log()))
    }

    /// The answer to an admin GET.
    pub fn admin(&self, path: &str) -> Response {
        self.try_admin("GET", path).unwrap_or_else(|| panic!("no answer to {path}:\n{}", self.log()))
    }

    pub fn admin_post(&self, path: &str) -> Response {
        self.try_admin("POST", path).unwrap_or_else(|| panic!("no answer to {path}:\n{}", self.log()))
    }

    fn try_admin(&self, method: &str, path: &str) -> Option<Response> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        Response::parse(&answer, method, true)
    }

    /// The value of one counter or gauge; 0 when it is not there.
    pub fn stat(&self, name: &str) -> u64 {
        self.stats(&format!("^{}$", name.replace('.', "\\."))).get(name).copied().unwrap_or(0)
    }

    /// Counters and gauges whose names match.
    pub fn stats(&self, regex: &str) -> BTreeMap<String, u64> {
        let text = self.admin(&format!("/stats?filter={}", percent_encode(regex))).text();
        text.lines()
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(": ")?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }

    /// Waits for a stat to reach a value.
    pub fn wait_stat(&self, name: &str, wanted: impl Fn(u64) -> bool) -> u64 {
        wait_for(PATIENCE, || Some(self.stat(name)).filter(|value| wanted(*value)))
            .unwrap_or_else(|| panic!("{name} stayed {}:\n{}", self.stat(name), self.log()))
    }

    /// What the process printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The lines of a file that the proxy writes, once there are as many, or after the time given.
    pub fn lines(&self, name: &str, count: usize, patience: Duration) -> Vec<String> {
        let path: PathBuf = self.folder.path().join(name);
        let read = || -> Vec<String> {
            let bytes = std::fs::read(&path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).lines().map(ToOwned::to_owned).collect()
        };
        wait_for(patience, || Some(read()).filter(|lines| lines.len() >= count)).unwrap_or_else(read)
    }

    /// The same, where fewer lines are a failure.
    pub fn wait_lines(&self, name: &str, count: usize) -> Vec<String> {
        let lines = self.lines(name, count, PATIENCE);
        assert!(lines.len() >= count, "{name} has {} lines, not {count}:\n{}", lines.len(), lines.join("\n"));
        lines
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        outrigger::sys::terminate(self.child.id());
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = wait_for(PATIENCE, || child.try_wait().expect("waited"));
        status.unwrap_or_else(|| panic!("did not end:\n{}", self.log()))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
    }

    /// Processor time that the process took so far, user and system.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// How many files the process has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process in `/proc`; zero when it is gone.
pub fn cpu_of(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The second field is the name in parentheses, which may hold blanks.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // SAFETY: sysconf takes an integer and touches no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64)
}

pub fn is_envoy(binary: &Path) -> bool {
    binary.file_name().is_some_and(|name| name == "envoy")
}

fn command(binary: &Path, config: &Path, folder: &Path, options: &Options<'_>) -> Command {
    let log = std::fs::File::create(folder.join("log")).expect("created");
    let mut command = Command::new(binary);
    command
        .arg("-c")
        .arg(config)
        .arg("--admin-address-path")
        .arg(folder.join("admin"))
        .args(["--concurrency", "1", "-l", "warning", "--file-flush-interval-msec", "20", "--disable-hot-restart"])
        .args(options.arguments)
        .envs(options.environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("cloned"))
        .stderr(log);
    if let Some(group) = options.group {
        std::os::unix::process::CommandExt::gid(&mut command, group);
    }
    if let Some(limit) = options.open_files {
        let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: setrlimit is async-signal-safe and reads only the struct that the closure owns.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
                match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
    }
    command
}

fn percent_encode(text: &str) -> String {
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    text.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
