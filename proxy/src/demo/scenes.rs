//! What the control plane of the demo changes while requests flow: a canary, PERMISSIVE to STRICT, and a new certificate. None
//! of the requests may fail.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::checks::{get, plaintext};
use super::topology::Topology;

type Result<T> = std::result::Result<T, String>;

/// How many requests decide whether the shares of a canary are right.
const SAMPLE: u32 = 400;
/// How long a change may take to be in force everywhere.
const SETTLED: Duration = Duration::from_secs(10);

/// Requests to the gateway, one after the other, until it is dropped.
pub struct Traffic {
    sent: Rc<Cell<u32>>,
    failed: Rc<Cell<Option<String>>>,
    task: tokio::task::AbortHandle,
}

impl Traffic {
    pub fn start(port: u16) -> Self {
        let (sent, failed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
        let (count, failure) = (sent.clone(), failed.clone());
        let task = tokio::task::spawn_local(async move {
            loop {
                for path in ["/orders", "/"] {
                    match get(port, path).await {
                        Ok((head, _)) if head.status == 200 => count.set(count.get() + 1),
                        Ok((head, body)) => failure.set(Some(format!("{path}: {}: {body}", head.status))),
                        Err(why) => failure.set(Some(format!("{path}: {why}"))),
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Traffic { sent, failed, task: task.abort_handle() }
    }

    /// How many were answered so far.
    ///
    /// # Errors
    /// When one failed.
    pub fn verdict(&self) -> Result<u32> {
        match self.failed.take() {
            Some(why) => Err(format!("a request failed: {why}")),
            None => Ok(self.sent.get()),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Plays all scenes and says what happened.
///
/// # Errors
/// When one of them did not.
pub async fn show(topology: &mut Topology) -> Result<()> {
    let traffic = Traffic::start(topology.port("gateway http"));
    println!("  The control plane changes things while requests flow:");
    println!("    a canary of order-service:      {}", canary(topology).await?);
    println!("    store-front's sidecar:          {}", strict(topology).await?);
    println!("    the gateway's certificate:      {}", rotation(topology).await?);
    println!("    requests that failed meanwhile: none of {}", traffic.verdict()?);
    Ok(())
}

/// 10 % of the orders go to a second version, then all of them.
pub async fn canary(topology: &mut Topology) -> Result<String> {
    let (inbound, app) = (topology.port("order-service v2 inbound"), topology.port("order-service v2 app"));
    topology.control_plane.deploy_canary(inbound, app)?;
    topology.control_plane.shift(10)?;
    let gateway = topology.port("gateway http");
    until("the canary gets requests", async || Ok(version(gateway).await? == 2)).await?;
    let mut second = 0;
    for _ in 0..SAMPLE {
        second += u32::from(version(gateway).await? == 2);
    }
    // Five standard deviations to either side.
    if !(10..=70).contains(&second) {
        return Err(format!("{second} of {SAMPLE} requests met v2, expected about {}", SAMPLE / 10));
    }
    topology.control_plane.shift(100)?;
    until("v2 gets everything", async || {
        for _ in 0..20 {
            if version(gateway).await? != 2 {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(format!("{second} of {SAMPLE} requests met v2, then all"))
}

/// Which version of order-service answers.
async fn version(gateway: u16) -> Result<u32> {
    let (head, body) = get(gateway, "/orders").await?;
    if head.status != 200 {
        return Err(format!("status {}: {body}", head.status));
    }
    Ok(if body.contains("\"version\":\"v2\"") { 2 } else { 1 })
}

/// The sidecar of store-front takes plaintext, and then no longer.
pub async fn strict(topology: &mut Topology) -> Result<String> {
    let sidecar = topology.port("store-front inbound");
    topology.control_plane.permissive(true)?;
    until("plaintext is taken", async || Ok(get(sidecar, "/").await.is_ok_and(|(head, _)| head.status == 200))).await?;
    topology.control_plane.permissive(false)?;
    until("plaintext is refused", async || Ok(plaintext(sidecar).await.is_ok())).await?;
    Ok("plaintext was answered, and then refused".to_owned())
}

/// The gateway gets another certificate.
pub async fn rotation(topology: &mut Topology) -> Result<String> {
    let admin = topology.port("gateway admin");
    let before = serial(admin).await?;
    topology.control_plane.rotate("gateway")?;
    until("the new certificate is used", async || Ok(serial(admin).await? != before)).await?;
    Ok(format!("serial {} became {}", short(&before), short(&serial(admin).await?)))
}

fn short(serial: &str) -> &str {
    serial.get(..8).unwrap_or(serial)
}

/// The serial number of the certificate that a proxy presents.
async fn serial(admin: u16) -> Result<String> {
    let (_, body) = get(admin, "/certs").await?;
    let certs: serde_json::Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    let serial = certs.pointer("/certificates/0/cert_chain/0/serial_number").and_then(serde_json::Value::as_str);
    serial.map(str::to_owned).ok_or_else(|| format!("no certificate in {body}"))
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + SETTLED;
    while !holds().await? {
        if Instant::now() > deadline {
            return Err(format!("never: {what}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
