//! Consistent hashing with bounded loads (`hash_balance_factor`): who is too busy passes requests on, in an order that
//! depends on nothing but the hash.

/// The host at `first` if its load is at most 1, else the first such one in the order of the hash, else the least busy.
pub(super) fn least_overloaded(first: usize, hosts: usize, hash: u64, load: impl Fn(usize) -> f64) -> usize {
    let mut best = (first, load(first));
    if best.1 <= 1.0 {
        return first;
    }
    let mut order: Vec<u32> = (0..hosts as u32).collect();
    let mut random = Mt19937::new(hash as u32);
    for at in 0..hosts {
        let other = at + random.below((hosts - at) as u32) as usize;
        if other < order.len() {
            order.swap(at, other);
        }
        let Some(index) = order.get(at).map(|index| *index as usize).filter(|index| *index != first) else { continue };
        let load = load(index);
        if load <= 1.0 {
            return index;
        }
        if load < best.1 {
            best = (index, load);
        }
    }
    best.0
}

/// `std::mt19937`, which Envoy takes for its orders.
struct Mt19937 {
    state: [u32; Mt19937::N],
    at: usize,
}

impl Mt19937 {
    const N: usize = 624;
    const M: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [0; Self::N];
        let mut last = seed;
        for (index, word) in state.iter_mut().enumerate() {
            if index > 0 {
                last = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(index as u32);
            }
            *word = last;
        }
        Mt19937 { state, at: Self::N }
    }

    #[expect(clippy::indexing_slicing, reason = "every index is below N, taken modulo N")]
    fn next(&mut self) -> u32 {
        if self.at == Self::N {
            for index in 0..Self::N {
                let both = self.state[index] & 0x8000_0000 | self.state[(index + 1) % Self::N] & 0x7fff_ffff;
                let odd = if both & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[index] = self.state[(index + Self::M) % Self::N] ^ (both >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut word = self.state[self.at % Self::N];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Uniform below `bound`, as Envoy draws it.
    fn below(&mut self, bound: u32) -> u32 {
        let Some(step) = (1_u64 << 32).checked_div(bound.into()) else { return 0 };
        loop {
            let drawn = u64::from(self.next()) / step;
            if drawn < u64::from(bound) {
                return drawn as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard says what the ten thousandth number of the default seed is.
    #[test]
    fn the_generator_is_that_of_the_standard() {
        let mut random = Mt19937::new(5489);
        assert_eq!((0..10_000).map(|_| random.next()).last(), Some(4_123_659_995));
    }

    #[test]
    fn busy_hosts_are_passed_over_in_the_same_order_for_the_same_hash() {
        let loads = [2.0, 1.5, 1.2, 1.0];
        assert_eq!(least_overloaded(3, 4, 1, |i| loads[i]), 3);
        assert_eq!(least_overloaded(0, 4, 1, |i| loads[i]), 3);
        let all_busy = [2.0, 1.5, 1.2, 1.3];
        assert_eq!(least_overloaded(0, 4, 1, |i| all_busy[i]), 2);
        let first = (0..50).map(|hash| least_overloaded(0, 40, hash, |i| if i == 0 { 2.0 } else { 0.0 }));
        let first: Vec<_> = first.collect();
        assert!(!first.contains(&0));
        assert!(first.iter().collect::<std::collections::HashSet<_>>().len() > 10, "{first:?}");
    }
}
