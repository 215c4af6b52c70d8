//! Delivered secrets that name files: followed as Envoy follows them (`SdsApi::onWatchUpdate`).
//!
//! Something moved into `watched_directory`, or without it into a directory of one of the files, has the secret loaded again with what is
//! in the files now, if that is anything else. A certificate and its key are two files: between the two moves they do not fit, which
//! counts as `sds.<name>.key_rotation_failed` and leaves the last good pair until the second move.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path as FilePath, PathBuf};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use xds_client::watch::{Watch, Watcher, parent};
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::data_source::Specifier;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::SecretManager;
use super::dynamic::{DemandedSecret, Id};
use crate::config::Path;
use crate::stats::names::discovery::SecretStats;
use crate::stats::{StatBlock, Stats};

/// A secret as it was delivered.
pub(super) struct FileBacked {
    demanded: DemandedSecret,
    secret: proto::Secret,
    /// Of the files when it was loaded last.
    contents: Option<Contents>,
}

type Contents = [u8; 32];

/// A secret whose directories are watched.
struct Followed {
    watches: Vec<Watch>,
    /// The delivery that the watches are for.
    delivery: u64,
}

impl SecretManager {
    /// Notes what was delivered, if it has files to follow.
    pub(super) fn note_files(&self, demanded: &DemandedSecret, secret: &proto::Secret) {
        let mut files = self.files.lock();
        let id = demanded.id();
        if names(secret).is_empty() {
            if files.remove(&id).is_none() {
                return;
            }
        } else {
            let contents = contents(secret);
            let secret = secret.clone();
            files.insert(id, FileBacked { demanded: demanded.clone(), secret, contents });
        }
        drop(files);
        self.files_changed.send_modify(|delivery| *delivery += 1);
    }

    /// Follows the files of all delivered secrets, for ever; also has the counters of all that are demanded exist. One task of the
    /// control thread does it. Files are opened only when there are any to follow.
    pub async fn follow_files(&self, stats: &Stats) {
        let (mut deliveries, mut demands) = (self.files_changed.subscribe(), self.demands());
        let mut watcher = None;
        let mut followed = BTreeMap::new();
        let mut counters = BTreeMap::new();
        loop {
            let delivery = *deliveries.borrow_and_update();
            demands.mark_unchanged();
            self.note_counters(stats, &mut counters);
            self.forget_files_nobody_uses();
            if !self.files.lock().is_empty() && watcher.is_none() {
                match Watcher::new() {
                    Ok(new) => watcher = Some(new),
                    Err(error) => tracing::warn!("the files of secrets cannot be followed: {error}"),
                }
            }
            if let Some(watcher) = &watcher {
                for id in self.watch(watcher, delivery, &mut followed) {
                    self.reload(&id, &counters);
                }
            }
            tokio::select! {
                _ = deliveries.changed() => {}
                _ = demands.changed() => {}
                error = run(watcher.as_ref()) => {
                    tracing::warn!("the files of secrets are not followed any more: {error}");
                    return;
                }
                id = AnyMove(&mut followed) => self.reload(&id, &counters),
            }
        }
    }

    fn note_counters(&self, stats: &Stats, counters: &mut BTreeMap<String, StatBlock<SecretStats>>) {
        let names = self.names();
        counters.retain(|name, _| names.contains(name));
        for name in names {
            let block = || stats.block(&format!("sds.{name}"));
            counters.entry(name.clone()).or_insert_with(block);
        }
    }

    fn forget_files_nobody_uses(&self) {
        let mut files = self.files.lock();
        files.retain(|_, file| self.is_used(&file.demanded));
    }

    /// Brings the watches in line with what was delivered. Those that are new, whose files may have moved since they were read.
    fn watch(&self, watcher: &Watcher, delivery: u64, followed: &mut BTreeMap<Id, Followed>) -> Vec<Id> {
        let files = self.files.lock();
        followed.retain(|id, _| files.contains_key(id));
        let mut new = Vec::new();
        for (id, file) in files.iter() {
            if followed.get(id).is_some_and(|known| known.delivery == delivery) {
                continue;
            }
            let mut watches = Vec::new();
            let (directories, modify) = directories(&file.secret);
            for directory in directories {
                match watcher.watched_directory(&directory, modify) {
                    Ok(watch) => watches.push(watch),
                    Err(error) => {
                        let (name, directory) = (&file.demanded.name, directory.display());
                        tracing::warn!("secret {name:?}: {directory} cannot be watched: {error}");
                    }
                }
            }
            // The old watches go only now: a move in between is seen by one or the other.
            followed.insert(id.clone(), Followed { watches, delivery });
            new.push(id.clone());
        }
        new
    }

    /// Loads a secret again if its files have changed.
    fn reload(&self, id: &Id, counters: &BTreeMap<String, StatBlock<SecretStats>>) {
        let files = self.files.lock();
        let Some(file) = files.get(id) else { return };
        let contents = contents(&file.secret);
        if contents.is_some() && contents == file.contents {
            return;
        }
        let (demanded, secret) = (file.demanded.clone(), file.secret.clone());
        drop(files);
        match self.deliver(&demanded, &secret, &Path::root("")) {
            Ok(()) => {
                if let Some(file) = self.files.lock().get_mut(id) {
                    file.contents = contents;
                }
                tracing::info!("secret {:?}: loaded again, its files have changed", demanded.name);
            }
            Err(reject) => {
                if let Some(counters) = counters.get(&demanded.name) {
                    counters.inc(SecretStats::KEY_ROTATION_FAILED);
                }
                tracing::warn!("secret {:?}: its files have changed and cannot be used: {reject}", demanded.name);
            }
        }
    }
}

async fn run(watcher: Option<&Watcher>) -> std::io::Error {
    match watcher {
        Some(watcher) => match watcher.run().await {
            Err(error) => error,
            Ok(never) => match never {},
        },
        None => std::future::pending().await,
    }
}

/// The first secret for which something moves.
struct AnyMove<'a>(&'a mut BTreeMap<Id, Followed>);

impl Future for AnyMove<'_> {
    type Output = Id;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Id> {
        for (id, followed) in self.get_mut().0.iter_mut() {
            for watch in &mut followed.watches {
                if pin!(watch.moved()).poll(cx).is_ready() {
                    return Poll::Ready(id.clone());
                }
            }
        }
        Poll::Pending
    }
}

/// The files that a secret names.
fn names(secret: &proto::Secret) -> Vec<&FilePath> {
    let sources: Vec<&Option<core::DataSource>> = match &secret.r#type {
        Some(Type::TlsCertificate(certificate)) => {
            let proto::TlsCertificate { certificate_chain, private_key, pkcs12, password, ocsp_staple, .. } =
                certificate;
            vec![certificate_chain, private_key, pkcs12, password, ocsp_staple]
        }
        Some(Type::ValidationContext(context)) => vec![&context.trusted_ca, &context.crl],
        _ => Vec::new(),
    };
    let files = sources.into_iter().flatten().filter_map(|source| match &source.specifier {
        Some(Specifier::Filename(name)) => Some(FilePath::new(name.as_str())),
        _ => None,
    });
    files.collect()
}

/// The directories to watch, and whether edits in place count.
fn directories(secret: &proto::Secret) -> (Vec<PathBuf>, bool) {
    let watched = match &secret.r#type {
        Some(Type::TlsCertificate(certificate)) => &certificate.watched_directory,
        Some(Type::ValidationContext(context)) => &context.watched_directory,
        _ => &None,
    };
    if let Some(core::WatchedDirectory { path, watch_modify }) = watched {
        return (vec![PathBuf::from(path)], *watch_modify);
    }
    let mut directories: Vec<PathBuf> = names(secret).into_iter().map(|name| parent(name).to_owned()).collect();
    directories.sort();
    directories.dedup();
    (directories, false)
}

/// Of all files together; none if one cannot be read.
fn contents(secret: &proto::Secret) -> Option<Contents> {
    let mut all = digest::Context::new(&digest::SHA256);
    for name in names(secret) {
        let bytes = std::fs::read(name).ok()?;
        all.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        all.update(&bytes);
    }
    all.finish().as_ref().try_into().ok()
}

#[cfg(test)]
mod tests;
