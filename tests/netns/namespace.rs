//! Network namespaces, each the home of one thread: what the thread starts, threads and processes, lives there too. They end with
//! their thread.

use std::process::Command;
use std::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

pub struct Namespace {
    jobs: Sender<Job>,
    /// The thread's, by which its namespace is known to the system.
    id: i32,
}

impl Namespace {
    /// # Errors
    /// When the kernel does not allow it.
    pub fn new() -> Result<Namespace, String> {
        let (jobs, todo) = channel::<Job>();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            // SAFETY: unshare takes an integer and concerns this thread alone; gettid takes nothing.
            let (made, id) = unsafe { (libc::unshare(libc::CLONE_NEWNET), libc::gettid()) };
            let error = std::io::Error::last_os_error();
            let _ = tell.send(if made == 0 { Ok(id) } else { Err(format!("no network namespace: {error}")) });
            if made == 0 {
                todo.into_iter().for_each(|job| job());
            }
        });
        let id = told.recv().map_err(|e| e.to_string())??;
        let namespace = Namespace { jobs, id };
        namespace.command("ip link set lo up")?;
        Ok(namespace)
    }

    /// Runs `job` in the namespace and waits for it.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job: Job = Box::new(move || drop(tell.send(job())));
        self.jobs.send(job).expect("the namespace's thread lives");
        told.recv().expect("the job did not panic")
    }

    /// # Errors
    /// What the command printed, when it fails.
    pub fn command(&self, line: &str) -> Result<(), String> {
        let line = line.to_owned();
        self.run(move || {
            let mut words = line.split_whitespace();
            let output = Command::new(words.next().unwrap_or_default()).args(words).output();
            let output = output.map_err(|e| format!("{line}: {e}"))?;
            if output.status.success() {
                Ok(())
            } else {
                Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()))
            }
        })
    }

    /// Several commands, one a line.
    ///
    /// # Errors
    /// Of the first that fails.
    pub fn commands(&self, lines: &str) -> Result<(), String> {
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).try_for_each(|line| self.command(line))
    }
}

/// A wire between two namespaces: 10.77.0.1 and fd77::1 are `pod`, 10.77.0.2 and fd77::2 `peer`. All that is not on the wire goes to the
/// other end, too.
///
/// # Errors
/// Of the first command that fails.
pub fn wire(pod: &Namespace, peer: &Namespace) -> Result<(), String> {
    pod.command(&format!("ip link add eth0 type veth peer name eth0 netns {}", peer.id))?;
    for (namespace, own, other) in [(pod, 1, 2), (peer, 2, 1)] {
        namespace.commands(&format!(
            "ip addr add 10.77.0.{own}/24 dev eth0
             ip -6 addr add fd77::{own}/64 dev eth0 nodad
             ip link set eth0 up
             ip route add default via 10.77.0.{other}
             ip -6 route add default via fd77::{other}"
        ))?;
    }
    Ok(())
}
