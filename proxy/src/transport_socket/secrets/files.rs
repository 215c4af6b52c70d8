//! Delivered secrets that name files: followed as Envoy follows them (`SdsApi::onWatchUpdate`).
//!
//! Something moved into `watched_directory`, or without it into a directory of one of the files, has the secret loaded again with what is
//! in the files now, if that is anything else. A certificate and its key are two files: between the two moves they do not fit, which
//! counts as `sds.<name>.key_rotation_failed` and leaves the last good pair until the second move.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path as FilePath, PathBuf};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use certs::slot::SecretSlot;
use certs::trust_domains::TrustDomains;
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

/// A SPIFFE bundle map in a file, and where it is used.
pub(super) struct FollowedBundles {
    file: PathBuf,
    contents: Contents,
    slot: Weak<SecretSlot<TrustDomains>>,
    watch: Option<Watch>,
}

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
            if watcher.is_none() && !(self.files.lock().is_empty() && self.bundles.lock().is_empty()) {
                match Watcher::new() {
                    Ok(new) => watcher = Some(new),
                    Err(error) => tracing::warn!("the files of secrets cannot be followed: {error}"),
                }
            }
            if let Some(watcher) = &watcher {
                self.watch_bundles(watcher);
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
                id = AnyMove(self, &mut followed) => self.reload(&id, &counters),
            }
        }
    }

    /// Follows the file that a slot was filled from with this text.
    pub(in crate::transport_socket) fn follow_bundles(
        &self,
        file: &FilePath,
        text: &[u8],
        slot: &Arc<SecretSlot<TrustDomains>>,
    ) {
        let (file, slot, contents) = (file.to_owned(), Arc::downgrade(slot), digest_of(&[text]));
        self.bundles.lock().push(FollowedBundles { file, contents, slot, watch: None });
        self.files_changed.send_modify(|delivery| *delivery += 1);
    }

    /// Watches bundle maps that are not watched yet, and has them read once more.
    fn watch_bundles(&self, watcher: &Watcher) {
        let mut bundles = self.bundles.lock();
        bundles.retain(|bundles| bundles.slot.strong_count() > 0);
        for bundles in bundles.iter_mut().filter(|bundles| bundles.watch.is_none()) {
            match watcher.directory(parent(&bundles.file)) {
                Ok(watch) => bundles.watch = Some(watch),
                Err(error) => tracing::warn!("{} cannot be watched: {error}", bundles.file.display()),
            }
            bundles.reload();
        }
    }

    fn poll_bundles(&self, cx: &mut Context<'_>) {
        let mut bundles = self.bundles.lock();
        for bundles in bundles.iter_mut() {
            while bundles.watch.as_mut().is_some_and(|watch| pin!(watch.moved()).poll(cx).is_ready()) {
                bundles.reload();
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

impl FollowedBundles {
    /// Reads the file again, if it says anything else.
    fn reload(&mut self) {
        let Some(slot) = self.slot.upgrade() else { return };
        let file = self.file.display();
        let text = match std::fs::read(&self.file) {
            Ok(text) => text,
            Err(error) => return tracing::warn!("{file} cannot be read, its trust bundles stay: {error}"),
        };
        let contents = digest_of(&[&text]);
        if contents == self.contents {
            return;
        }
        match TrustDomains::from_bundle_map(&text, &file.to_string()) {
            Ok(domains) => {
                slot.set(Some(Arc::new(domains)));
                self.contents = contents;
                tracing::info!("{file}: trust bundles loaded again");
            }
            Err(error) => tracing::warn!("{file} cannot be used, its trust bundles stay: {error}"),
        }
    }
}

/// The first secret for which something moves. Bundle maps are read again on the way.
struct AnyMove<'a>(&'a SecretManager, &'a mut BTreeMap<Id, Followed>);

impl Future for AnyMove<'_> {
    type Output = Id;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Id> {
        let AnyMove(secrets, followed) = self.get_mut();
        secrets.poll_bundles(cx);
        for (id, followed) in followed.iter_mut() {
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
    let texts = names(secret).into_iter().map(|name| std::fs::read(name).ok()).collect::<Option<Vec<_>>>()?;
    Some(digest_of(&texts))
}

fn digest_of(texts: &[impl AsRef<[u8]>]) -> Contents {
    let mut all = digest::Context::new(&digest::SHA256);
    for text in texts {
        let text = text.as_ref();
        all.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        all.update(text);
    }
    let mut contents = [0; 32];
    contents.iter_mut().zip(all.finish().as_ref()).for_each(|(to, from)| *to = *from);
    contents
}

#[cfg(test)]
mod tests;
