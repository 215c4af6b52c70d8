//! Families of stats: static tables of fields, and the typed constants call sites name a field with.
//!
//! [`stat_block!`](crate::stat_block) writes a table. A field constant carries its family as a type parameter, so a
//! counter of `HttpStats` cannot be incremented in a block of `ClusterStats`.

use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// What a histogram measures. Envoy prints all of them as plain numbers; the unit tells the caller what to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Unspecified,
    Bytes,
    Microseconds,
    Milliseconds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram(Unit),
    TextReadout,
    /// Response-code counters made on demand: field `upstream_rq_` stands for `upstream_rq_200`, `upstream_rq_2xx` and
    /// `upstream_rq_completed`. Only codes are stored; class and total are sums of them. The total is shown from the start
    /// unless the field is lazy.
    Codes,
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    /// Shown only after the first write, as Envoy's stats that come into being at first use.
    pub lazy: bool,
}

/// The static description of a family.
#[derive(Debug)]
pub struct Table {
    pub fields: &'static [Field],
    /// Counters and gauges, the number of cells of a worker shard.
    pub cells: u16,
    pub histograms: u16,
    sorted: OnceLock<Box<[Place]>>,
}

impl Table {
    #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
    pub const fn new(fields: &'static [Field]) -> Self {
        let (mut cells, mut histograms, mut i) = (0, 0, 0);
        while i < fields.len() {
            match fields[i].kind {
                Kind::Counter | Kind::Gauge => cells += 1,
                Kind::Histogram(_) => histograms += 1,
                Kind::TextReadout | Kind::Codes => {}
            }
            i += 1;
        }
        Self { fields, cells, histograms, sorted: OnceLock::new() }
    }

    /// Places of the fields in the order of their names.
    pub(crate) fn sorted(&self) -> &[Place] {
        self.sorted.get_or_init(|| {
            let mut order: Vec<Place> = self.places().map(|(_, at)| at).collect();
            order.sort_by_key(|at| self.field(at.index).name);
            order.into()
        })
    }

    /// All fields with their places.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&'static Field, Place)> {
        let (mut cells, mut histograms) = (0, 0);
        self.fields.iter().zip(0u16..).map(move |(field, index)| {
            let next = match field.kind {
                Kind::Histogram(_) => &mut histograms,
                _ => &mut cells,
            };
            let slot = *next;
            *next += u16::from(!matches!(field.kind, Kind::TextReadout | Kind::Codes));
            (field, Place { index, slot })
        })
    }

    pub(crate) fn field(&self, index: u16) -> &'static Field {
        static NONE: Field = Field { name: "", kind: Kind::Counter, lazy: true };
        self.fields.get(usize::from(index)).unwrap_or(&NONE)
    }
}

/// A family; implemented by [`stat_block!`](crate::stat_block) for an empty marker type.
pub trait StatTable: 'static {
    fn table() -> &'static Table;
}

/// Which field, and its place among the fields stored the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) index: u16,
    pub(crate) slot: u16,
}

impl Place {
    #[doc(hidden)]
    #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
    pub const fn of(fields: &[Field], index: u16) -> Self {
        let (mut slot, mut i) = (0, 0);
        let histogram = matches!(fields[index as usize].kind, Kind::Histogram(_));
        while i < index as usize {
            match fields[i].kind {
                Kind::Counter | Kind::Gauge if !histogram => slot += 1,
                Kind::Histogram(_) if histogram => slot += 1,
                _ => {}
            }
            i += 1;
        }
        Self { index, slot }
    }
}

macro_rules! field_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<T>(pub(crate) Place, PhantomData<fn() -> T>);

        impl<T: StatTable> $name<T> {
            #[doc(hidden)]
            pub const fn at(place: Place) -> Self {
                Self(place, PhantomData)
            }

            /// The field's name without the scope's prefix.
            pub fn name(self) -> &'static str {
                T::table().field(self.0.index).name
            }
        }

        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $name<T> {}

        impl<T: StatTable> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.name())
            }
        }
    };
}

field_type!(
    /// Only grows.
    Counter
);
field_type!(
    /// Goes up and down; the sum of signed changes of all threads.
    Gauge
);
field_type!(
    /// A distribution of unsigned numbers.
    Histogram
);
field_type!(
    /// A string, such as a version.
    Text
);
field_type!(
    /// Response codes counted on demand.
    Codes
);

/// The kind that a keyword of [`stat_block!`](crate::stat_block) stands for. `__stat_type!` knows the same keywords.
#[doc(hidden)]
#[expect(clippy::panic, reason = "evaluated at compile time")]
pub const fn kind(keyword: &str) -> Kind {
    let plain = match keyword.as_bytes() {
        [b'l', b'a', b'z', b'y', b'_', plain @ ..] => plain,
        plain => plain,
    };
    match plain {
        b"counter" => Kind::Counter,
        b"gauge" => Kind::Gauge,
        b"histogram" => Kind::Histogram(Unit::Unspecified),
        b"text" => Kind::TextReadout,
        b"codes" => Kind::Codes,
        _ => panic!("not a keyword"),
    }
}

#[doc(hidden)]
pub const fn is_lazy(keyword: &str) -> bool {
    matches!(keyword.as_bytes(), [b'l', b'a', b'z', b'y', b'_', ..])
}

/// Lower-case copy of a field's constant name.
#[doc(hidden)]
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
pub const fn lower<const N: usize>(name: &str) -> [u8; N] {
    let (bytes, mut out, mut i) = (name.as_bytes(), [0; N], 0);
    while i < N {
        out[i] = bytes[i].to_ascii_lowercase();
        i += 1;
    }
    out
}

/// Defines a family of stats.
///
/// ```
/// outrigger::stat_block! {
///     /// `tcp.<stat_prefix>.`
///     pub struct DemoStats {
///         counter DOWNSTREAM_CX_TOTAL,
///         gauge DOWNSTREAM_CX_ACTIVE,
///         histogram DOWNSTREAM_CX_LENGTH_MS(Milliseconds),
///         text VERSION_TEXT,
///         codes DOWNSTREAM_RQ = "downstream_rq_",
///         lazy_counter FAULTS = "faults.TCP",
///     }
/// }
/// # use outrigger::stats::Stats;
/// let stats = Stats::new(1);
/// let demo = stats.block::<DemoStats>("tcp.ingress");
/// demo.inc(DemoStats::DOWNSTREAM_CX_TOTAL);
/// assert_eq!(demo.read(DemoStats::DOWNSTREAM_CX_TOTAL), 1);
/// ```
///
/// A field is called as its constant in lower case unless a string says otherwise. `lazy_` fields are shown only once
/// written.
#[macro_export]
macro_rules! stat_block {
    ($(#[$doc:meta])* $vis:vis struct $table:ident {
        $( $(#[$fdoc:meta])* $kind:ident $field:ident $(($unit:ident))? $(= $name:literal)? ),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $table;

        const _: () = {
            #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
            enum Index { $($field),* }

            const FIELDS: &[$crate::stats::Field] = &[$($crate::__stat_field!($kind $field $(($unit))? $(= $name)?)),*];

            static TABLE: $crate::stats::Table = $crate::stats::Table::new(FIELDS);

            #[allow(dead_code)]
            impl $table {
                $(
                    $(#[$fdoc])*
                    pub const $field: $crate::__stat_type!($kind, $table) = <$crate::__stat_type!($kind, $table)>::at(
                        $crate::stats::table::Place::of(FIELDS, Index::$field as u16));
                )*
            }

            impl $crate::stats::StatTable for $table {
                fn table() -> &'static $crate::stats::Table {
                    &TABLE
                }
            }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __stat_field {
    ($kind:ident $field:ident) => {
        $crate::stats::Field {
            name: {
                const LOWER: [u8; stringify!($field).len()] = $crate::stats::table::lower(stringify!($field));
                match core::str::from_utf8(&LOWER) {
                    Ok(name) => name,
                    Err(_) => panic!("an identifier"),
                }
            },
            kind: $crate::stats::table::kind(stringify!($kind)),
            lazy: $crate::stats::table::is_lazy(stringify!($kind)),
        }
    };
    ($kind:ident $field:ident = $name:literal) => {
        $crate::stats::Field { name: $name, ..$crate::__stat_field!($kind $field) }
    };
    ($kind:ident $field:ident ($unit:ident)) => {
        $crate::stats::Field {
            kind: $crate::stats::Kind::Histogram($crate::stats::Unit::$unit),
            ..$crate::__stat_field!($kind $field)
        }
    };
    ($kind:ident $field:ident ($unit:ident) = $name:literal) => {
        $crate::stats::Field { name: $name, ..$crate::__stat_field!($kind $field ($unit)) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __stat_type {
    (counter, $table:ident) => { $crate::stats::Counter<$table> };
    (gauge, $table:ident) => { $crate::stats::Gauge<$table> };
    (histogram, $table:ident) => { $crate::stats::Histogram<$table> };
    (text, $table:ident) => { $crate::stats::Text<$table> };
    (codes, $table:ident) => { $crate::stats::Codes<$table> };
    (lazy_counter, $table:ident) => { $crate::stats::Counter<$table> };
    (lazy_codes, $table:ident) => { $crate::stats::Codes<$table> };
    (lazy_gauge, $table:ident) => { $crate::stats::Gauge<$table> };
    (lazy_histogram, $table:ident) => { $crate::stats::Histogram<$table> };
}
