//! `envoy.type.v3.Percent` and `envoy.type.v3.FractionalPercent`.

use xds_protos::envoy::r#type::v3 as pb;

use super::{Path, Reject};

/// So many out of a hundred, ten thousand or a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FractionalPercent {
    pub numerator: u32,
    pub denominator: Denominator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denominator {
    Hundred,
    TenThousand,
    Million,
}

impl Denominator {
    pub fn value(self) -> u32 {
        match self {
            Denominator::Hundred => 100,
            Denominator::TenThousand => 10_000,
            Denominator::Million => 1_000_000,
        }
    }
}

impl FractionalPercent {
    pub const ALWAYS: FractionalPercent = FractionalPercent { numerator: 100, denominator: Denominator::Hundred };
    pub const NEVER: FractionalPercent = FractionalPercent { numerator: 0, denominator: Denominator::Hundred };

    /// # Errors
    /// For a denominator that is not known.
    pub fn build(proto: &pb::FractionalPercent, path: &Path<'_>) -> Result<Self, Reject> {
        use pb::fractional_percent::DenominatorType;
        let pb::FractionalPercent { numerator, denominator } = proto;
        let denominator = match DenominatorType::try_from(*denominator) {
            Ok(DenominatorType::Hundred) => Denominator::Hundred,
            Ok(DenominatorType::TenThousand) => Denominator::TenThousand,
            Ok(DenominatorType::Million) => Denominator::Million,
            Err(_) => {
                let why = format_args!("expected HUNDRED, TEN_THOUSAND or MILLION, got {denominator}");
                return Err(path.field("denominator").reject(why));
            }
        };
        Ok(FractionalPercent { numerator: *numerator, denominator })
    }

    /// Whether what has this chance happens, for a uniformly distributed `random`. A numerator above the denominator is
    /// always.
    pub fn hit(self, random: u64) -> bool {
        random % u64::from(self.denominator.value()) < u64::from(self.numerator)
    }

    /// Happens whatever the random number.
    pub fn is_always(self) -> bool {
        self.numerator >= self.denominator.value()
    }
}

/// A `Percent`, from 0 to 100.
///
/// # Errors
/// Outside of that range, and when it is not a number.
pub fn percent(proto: &pb::Percent, path: &Path<'_>) -> Result<f64, Reject> {
    let value = proto.value;
    if (0.0..=100.0).contains(&value) {
        Ok(value)
    } else {
        Err(path.reject(format_args!("expected a percentage from 0 to 100, got {value}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fraction(numerator: u32, denominator: i32) -> Result<FractionalPercent, String> {
        let proto = pb::FractionalPercent { numerator, denominator };
        FractionalPercent::build(&proto, &Path::root("f")).map_err(|r| r.to_string())
    }

    #[test]
    fn a_fraction_is_compared_with_the_remainder_of_the_random_number() {
        let tenth = fraction(1000, 1).unwrap();
        assert!(tenth.hit(0) && tenth.hit(999) && tenth.hit(10_999));
        assert!(!tenth.hit(1000) && !tenth.hit(9999));
        assert!(FractionalPercent::ALWAYS.hit(u64::MAX) && !FractionalPercent::NEVER.hit(0));
        assert!(fraction(101, 0).unwrap().is_always() && !fraction(101, 2).unwrap().is_always());
        assert_eq!(fraction(1, 3), Err("f.denominator: expected HUNDRED, TEN_THOUSAND or MILLION, got 3".into()));
    }

    #[test]
    fn a_percentage_is_at_most_a_hundred() {
        let of = |value| percent(&pb::Percent { value }, &Path::root("p")).ok();
        assert_eq!([of(0.0), of(12.5), of(100.0)], [Some(0.0), Some(12.5), Some(100.0)]);
        assert_eq!([of(-0.1), of(100.1), of(f64::NAN)], [None; 3]);
    }
}
