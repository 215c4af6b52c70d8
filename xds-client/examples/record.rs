//! Plays `tests/recorded/steps.txt` to whoever connects, and prints every request as a line: how the recordings beside
//! that file were made from Envoy.
//!
//! `cargo run -p xds-client --features server --example record -- 127.0.0.1:18000 xds-client/tests/recorded/steps.txt`

use std::error::Error;
use std::time::Duration;

use tokio::net::TcpListener;
use xds_client::server::{Store, serve_tcp};

#[path = "../tests/common/script.rs"]
mod script;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else { return Err("ADDRESS FILE".into()) };
    let steps = std::fs::read_to_string(file)?;
    let store = Store::new();
    let mut server = tokio::spawn(serve_tcp(TcpListener::bind(&address).await?, store.clone()));
    let printer = store.clone();
    tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let log = printer.logged(|log| log.len() > seen).await;
            log.iter().skip(seen).for_each(|entry| println!("{}", script::line(entry)));
            seen = log.len();
        }
    });
    for step in steps.split("---\n") {
        println!("== step");
        match step.trim() {
            "wait" => tokio::time::sleep(Duration::from_secs(6)).await,
            "restart" => {
                server.abort();
                let _ = (&mut server).await;
                server = tokio::spawn(serve_tcp(TcpListener::bind(&address).await?, store.clone()));
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            step => {
                script::apply(&store, step)?;
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
        }
    }
    Ok(())
}
