//! From a command line to a running process: load, build everything, then start.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;

use super::flags::{Mode, RunOptions};
use super::handles;
use crate::admin;
use crate::bootstrap::{self, Bootstrap, Loaded};
use crate::cluster::dns::SystemResolver;
use crate::config::{BuildCx, Path, Reject};
use crate::discovery::Discovery;
use crate::listener::Listener;
use crate::listener::connections::Connections;
use crate::runtime::{Live, Runtime};
use crate::server::{self, Server};
use crate::stats::Stats;
use crate::sys;

/// How often disk layers of the runtime are looked at.
const RUNTIME_LOOK: Duration = Duration::from_secs(1);

/// Runs until the process ends, and says how.
pub fn run(options: RunOptions) -> ExitCode {
    server::prepare();
    for note in &options.notes {
        tracing::info!("{note}");
    }
    let source = options.config_path.as_ref().map_or("--config-yaml".to_owned(), |path| path.display().to_string());
    match start(options) {
        Ok(None) => {
            println!("configuration '{source}' OK");
            ExitCode::SUCCESS
        }
        Ok(Some(())) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("outrigger: {why}");
            ExitCode::FAILURE
        }
    }
}

/// `None` when the configuration was only to be checked.
fn start(options: RunOptions) -> Result<Option<()>, String> {
    let mut loaded = bootstrap::load(
        options.config_path.as_deref(),
        options.config_yaml.as_deref(),
        options.server.allow_unknown_static_fields,
    )
    .map_err(|error| error.to_string())?;
    for warning in &loaded.warnings {
        tracing::warn!("ignored: {warning}");
    }
    let message = std::mem::take(&mut loaded.message);
    let bootstrap = Bootstrap::build(message, loaded.wire.clone()).map_err(|reject| loaded.describe(&reject))?;
    for unused in &bootstrap.unused {
        tracing::warn!("{unused}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot make the control runtime: {error}"))?;
    let local = LocalSet::new();
    local.block_on(&runtime, serve(options, bootstrap, loaded))
}

async fn serve(options: RunOptions, mut bootstrap: Bootstrap, loaded: Loaded) -> Result<Option<()>, String> {
    let cx = context(&options, &mut bootstrap)?;
    let listeners = build(&cx, &bootstrap).map_err(|reject| loaded.describe(&reject))?;
    // The texts and the messages of thousands of resources are not needed any more.
    drop(loaded);
    if options.mode == Mode::Validate {
        return Ok(None);
    }
    let server = Server::new(cx.clone());
    server.watchdogs.set(bootstrap.watchdogs);
    if let Some(version) = bootstrap.stats_server_version_override {
        server.set_version(version);
    }
    server.on_reopen_logs(|| {
        if let Err(error) = crate::logging::reopen() {
            tracing::error!("cannot reopen the log file: {error}");
        }
    });
    server.on_reopen_logs(crate::access_log::reopen);
    for listener in listeners {
        server.listeners.add(listener).map_err(|error| error.to_string())?;
    }
    let admin = match &bootstrap.admin {
        Some(admin) => {
            let listener = admin::AdminListener::bind(&admin.address)
                .await
                .map_err(|error| format!("cannot listen on the admin address {}: {error}", admin.address))?;
            if let Some(path) = &options.admin_address_path {
                std::fs::write(path, listener.address()).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            Some(listener)
        }
        None => None,
    };
    let flush = bootstrap.stats_flush_interval;
    let node = handles::node(bootstrap.node.clone(), &options);
    let dynamic = std::mem::take(&mut bootstrap.dynamic);
    let discovery = Discovery::start(&server, node, dynamic);
    if let Some(listener) = admin {
        let context = handles::context(&server, &discovery, &options, bootstrap);
        tokio::task::spawn_local(admin::serve(listener, context, std::future::pending()));
    } else {
        drop(bootstrap);
    }
    let stats = cx.stats.clone();
    tokio::task::spawn_local(async move {
        let mut tick = tokio::time::interval(flush);
        loop {
            tick.tick().await;
            stats.flush();
        }
    });
    if cx.runtime.has_disk_layers() {
        let runtime = cx.runtime.clone();
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(RUNTIME_LOOK);
            loop {
                tick.tick().await;
                runtime.reread();
            }
        });
    }
    let (secrets, stats) = (Arc::clone(&cx.secrets), cx.stats.clone());
    tokio::task::spawn_local(async move { secrets.follow_files(&stats).await });
    sys::give_back_memory();
    cx.clusters.start(Arc::new(SystemResolver::new(&cx.stats)));
    let target = server.init.target("clusters");
    let clusters = cx.clusters.clone();
    tokio::task::spawn_local(async move {
        clusters.initialized().await;
        drop(target);
    });
    if options.mode == Mode::InitOnly {
        server.init.ready().await;
        return Ok(None);
    }
    let ended = Rc::clone(&server).run().await;
    crate::access_log::flush_all();
    ended.map(Some)
}

/// What everything is built in.
fn context(options: &RunOptions, bootstrap: &mut Bootstrap) -> Result<BuildCx, String> {
    let mut config = std::mem::take(&mut bootstrap.stats);
    for (name, value) in &options.stats_tags {
        config.add_tag(name, value);
    }
    let stats = Stats::with_config(options.server.concurrency, config);
    let layers = std::mem::take(&mut bootstrap.runtime_layers);
    let mut server = options.server.clone();
    for (flag, node) in
        [(&mut server.service_node, &bootstrap.node.id), (&mut server.service_cluster, &bootstrap.node.cluster)]
    {
        if flag.is_empty() {
            flag.clone_from(node);
        }
    }
    let mut cx = BuildCx::new(server);
    cx.stats = stats;
    cx.runtime = Arc::new(Runtime::load(layers, &cx.options.service_cluster, Some(&cx.stats)));
    cx.connections = Arc::new(Connections::new(match bootstrap.max_downstream_connections {
        Some(max) => Live::fixed(max),
        None => cx.runtime.live_integer("overload.global_downstream_max_connections", u64::MAX),
    }));
    Ok(cx)
}

/// Builds the static resources in the order in which they refer to each other.
fn build(cx: &BuildCx, bootstrap: &Bootstrap) -> Result<Vec<Arc<Listener>>, Reject> {
    let path = Path::root("static_resources");
    cx.secrets.add_static(&bootstrap.secrets, &path.field("secrets"))?;
    if let Some(resolver) = &bootstrap.typed_dns_resolver_config {
        cx.clusters.set_default_resolver(resolver, &Path::root("typed_dns_resolver_config"))?;
    }
    cx.clusters.load_static(bootstrap.cluster_manager.as_ref(), &bootstrap.clusters, &path, cx)?;
    let path = path.field("listeners");
    bootstrap.listeners.iter().enumerate().map(|(i, listener)| Listener::build(listener, &path.index(i), cx)).collect()
}
