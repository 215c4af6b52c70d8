//! Values that follow the runtime: a cell that the runtime writes when a layer changes, and that the data path loads.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::config::percent::{Denominator, FractionalPercent};

/// A value that may have a runtime key. Reading it costs a load; one that cannot change has no cell.
#[derive(Clone)]
pub struct Live<T> {
    held: Held,
    kind: PhantomData<T>,
}

#[derive(Clone)]
enum Held {
    Fixed(u64),
    Followed(Arc<AtomicU64>),
}

/// What fits a cell.
pub trait Scalar: Copy + 'static {
    fn pack(self) -> u64;
    fn unpack(bits: u64) -> Self;
}

impl<T: Scalar> Live<T> {
    pub fn fixed(value: T) -> Self {
        Live { held: Held::Fixed(value.pack()), kind: PhantomData }
    }

    pub(super) fn followed(cell: Arc<AtomicU64>) -> Self {
        Live { held: Held::Followed(cell), kind: PhantomData }
    }

    #[inline]
    pub fn get(&self) -> T {
        T::unpack(match &self.held {
            Held::Fixed(bits) => *bits,
            Held::Followed(cell) => cell.load(Relaxed),
        })
    }
}

impl<T: Scalar + fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Scalar for u64 {
    fn pack(self) -> u64 {
        self
    }

    fn unpack(bits: u64) -> Self {
        bits
    }
}

impl Scalar for u32 {
    fn pack(self) -> u64 {
        self.into()
    }

    fn unpack(bits: u64) -> Self {
        bits as u32
    }
}

impl Scalar for bool {
    fn pack(self) -> u64 {
        self.into()
    }

    fn unpack(bits: u64) -> Self {
        bits != 0
    }
}

impl Scalar for f64 {
    fn pack(self) -> u64 {
        self.to_bits()
    }

    fn unpack(bits: u64) -> Self {
        f64::from_bits(bits)
    }
}

impl Scalar for FractionalPercent {
    fn pack(self) -> u64 {
        let denominator = match self.denominator {
            Denominator::Hundred => 0,
            Denominator::TenThousand => 1,
            Denominator::Million => 2,
        };
        denominator << 32 | u64::from(self.numerator)
    }

    fn unpack(bits: u64) -> Self {
        let denominator = match bits >> 32 {
            0 => Denominator::Hundred,
            1 => Denominator::TenThousand,
            _ => Denominator::Million,
        };
        FractionalPercent { numerator: bits as u32, denominator }
    }
}
