//! The layers of a runtime: `envoy.config.bootstrap.v3.RuntimeLayer`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::value::Entry;

/// Deeper than anybody nests keys; a loop of symbolic links ends here.
const MAX_DEPTH: usize = 16;

/// Values by key.
pub type Entries = BTreeMap<String, Entry>;

/// A layer as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub name: String,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Static(Entries),
    Disk(DiskLayer),
    /// What `/runtime_modify` sets.
    Admin,
}

/// `RuntimeLayer.DiskLayer`: a tree of files, one a key; directories are the parts of a key that stand before its dots.
///
/// It is replaced as a whole, by moving another symbolic link over `symlink_root`: then it is read anew. A change of a file
/// within the tree is not noticed.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskLayer {
    pub symlink_root: PathBuf,
    /// Beneath the root; may be empty.
    pub subdirectory: PathBuf,
    /// The values are in a directory that is called as the service cluster.
    pub append_service_cluster: bool,
}

impl DiskLayer {
    fn directory(&self, service_cluster: &str) -> PathBuf {
        let directory = self.symlink_root.join(&self.subdirectory);
        if self.append_service_cluster { directory.join(service_cluster) } else { directory }
    }

    /// `None` when there is no such directory, which is as good as a layer that was not configured.
    ///
    /// # Errors
    /// When a file cannot be read or is not text.
    pub fn read(&self, service_cluster: &str) -> io::Result<Option<Entries>> {
        let directory = self.directory(service_cluster);
        if !directory.exists() {
            return Ok(None);
        }
        let mut entries = Entries::new();
        walk(&directory, "", 0, &mut entries)?;
        Ok(Some(entries))
    }

    /// Changes when another tree is put in place.
    pub fn mark(&self) -> Option<(PathBuf, u64)> {
        use std::os::unix::fs::MetadataExt;
        let inode = fs::symlink_metadata(&self.symlink_root).ok()?.ino();
        Some((fs::read_link(&self.symlink_root).unwrap_or_default(), inode))
    }
}

fn walk(directory: &Path, prefix: &str, depth: usize, out: &mut Entries) -> io::Result<()> {
    if depth > MAX_DEPTH {
        let why = format!("{}: nested deeper than {MAX_DEPTH} directories", directory.display());
        return Err(io::Error::other(why));
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        if path.is_dir() {
            walk(&path, &key, depth + 1, out)?;
        } else {
            let text = fs::read_to_string(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            out.insert(key, Entry::parse(without_comments(&text).trim_end()));
        }
    }
    Ok(())
}

/// The lines that do not begin with `#`.
fn without_comments(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
}
