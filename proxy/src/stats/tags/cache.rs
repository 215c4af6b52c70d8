//! The tags of a block's fields, found once. Blocks of a family mostly differ in label values only, so the names without tags
//! are shared between them.

use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use parking_lot::Mutex;

use super::{TagProducer, labels};
use crate::stats::table::{Kind, Table};

/// For each field its name without tags, and which of the block's label sets it has.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Families(Box<[(Arc<str>, u16)]>);

impl Families {
    pub fn get(&self, field: u16) -> Option<(&Arc<str>, u16)> {
        self.0.get(usize::from(field)).map(|(family, set)| (family, *set))
    }
}

#[derive(Debug)]
pub struct BlockTags {
    pub families: Arc<Families>,
    /// Label sets as Prometheus shows them.
    pub labels: Box<[Box<str>]>,
}

/// One of each distinct [`Families`] that a block has.
#[derive(Debug, Default)]
pub struct FamilyCache {
    known: Mutex<HashTable<Weak<Families>>>,
    hash: foldhash::fast::RandomState,
}

impl FamilyCache {
    pub fn find(&self, producer: &TagProducer, table: &Table, prefix: &str) -> BlockTags {
        let mut label_sets: Vec<Box<str>> = Vec::new();
        let mut name = String::from(prefix);
        let of_field = table.fields.iter().map(|field| {
            if field.kind == Kind::Codes {
                // Their names are made when they are shown.
                return (Arc::from(""), 0);
            }
            name.truncate(prefix.len());
            name.push_str(field.name);
            let tagged = producer.produce(&name);
            let labels = labels(&tagged.tags);
            let set = label_sets.iter().position(|known| **known == *labels).unwrap_or_else(|| {
                label_sets.push(labels.into());
                label_sets.len() - 1
            });
            (Arc::from(tagged.name), set as u16)
        });
        let families = self.share(Families(of_field.collect()));
        BlockTags { families, labels: label_sets.into() }
    }

    fn share(&self, families: Families) -> Arc<Families> {
        let hash = self.hash.hash_one(&families);
        let mut known = self.known.lock();
        if let Some(found) = known.iter_hash(hash).filter_map(Weak::upgrade).find(|found| **found == families) {
            return found;
        }
        known.retain(|weak| weak.strong_count() != 0);
        let families = Arc::new(families);
        known.insert_unique(hash, Arc::downgrade(&families), |weak| {
            weak.upgrade().map_or(0, |families| self.hash.hash_one(&*families))
        });
        families
    }
}
