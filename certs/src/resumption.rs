//! Session resumption of a server context: tickets that expire, and a bounded store for TLS 1.2 session IDs.
//!
//! One [`Resumption`] belongs to one set of validation rules and names; a context makes a new one when they change, so that nobody
//! resumes past a changed trust bundle. Sessions hold the peer's certificates, which are judged again on resumption.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, StoresServerSessions};
use rustls::time_provider::TimeProvider;

/// BoringSSL's default `session_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);
/// Sessions that are kept for clients without tickets. A session with a client's certificates takes about 2 KiB.
const MAX_STORED: usize = 1024;

/// `disable_stateless_session_resumption`, `disable_stateful_session_resumption`, `session_timeout`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionResumption {
    /// No tickets: TLS 1.3 clients cannot resume then.
    pub disable_stateless: bool,
    /// No session IDs, which only TLS 1.2 has.
    pub disable_stateful: bool,
    /// How long a session may be resumed; 2 hours by default, half a day at most. Zero: not at all.
    pub timeout: Option<Duration>,
}

pub(crate) struct Resumption {
    pub(crate) tickets: Option<Arc<dyn ProducesTickets>>,
    pub(crate) store: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    pub(crate) fn new(options: &SessionResumption, time: &Arc<dyn TimeProvider>) -> Self {
        let timeout = options.timeout.unwrap_or(DEFAULT_TIMEOUT).as_secs();
        let clock = Clock { time: Arc::clone(time), timeout };
        let tickets = if options.disable_stateless || timeout == 0 { None } else { Ticketer::new().ok() };
        let tickets =
            tickets.map(|inner| -> Arc<dyn ProducesTickets> { Arc::new(Tickets { inner, clock: clock.clone() }) });
        let store: Arc<dyn StoresServerSessions> = match options.disable_stateful || timeout == 0 {
            true => Arc::new(NoServerSessionStorage {}),
            false => Arc::new(Store { clock, sessions: Mutex::default() }),
        };
        Self { tickets, store }
    }
}

#[derive(Clone, Debug)]
struct Clock {
    time: Arc<dyn TimeProvider>,
    timeout: u64,
}

impl Clock {
    fn now(&self) -> Option<u64> {
        self.time.current_time().map(|now| now.as_secs())
    }

    fn is_fresh(&self, issued: u64) -> bool {
        self.now().is_some_and(|now| now.checked_sub(issued).is_some_and(|age| age <= self.timeout))
    }
}

/// rustls' own tickets with the second of issue in front of what they enclose.
#[derive(Debug)]
struct Tickets {
    inner: Arc<dyn ProducesTickets>,
    clock: Clock,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.clock.timeout).unwrap_or(u32::MAX).min(self.inner.lifetime())
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let issued = self.clock.now()?.to_be_bytes();
        self.inner.encrypt(&[&issued, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.inner.decrypt(cipher)?;
        let issued = u64::from_be_bytes(*plain.first_chunk()?);
        self.clock.is_fresh(issued).then(|| plain.split_off(8))
    }
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<Vec<u8>, (u64, Vec<u8>)>,
    oldest_first: VecDeque<Vec<u8>>,
}

struct Store {
    clock: Clock,
    sessions: Mutex<Sessions>,
}

impl StoresServerSessions for Store {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        let Some(now) = self.clock.now() else { return false };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.by_id.insert(id.clone(), (now, session)).is_none() {
            sessions.oldest_first.push_back(id);
        }
        while sessions.oldest_first.len() > MAX_STORED {
            if let Some(oldest) = sessions.oldest_first.pop_front() {
                sessions.by_id.remove(&oldest);
            }
        }
        true
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let (issued, session) = sessions.by_id.get(id)?;
        self.clock.is_fresh(*issued).then(|| session.clone())
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let (issued, session) = sessions.by_id.remove(id)?;
        sessions.oldest_first.retain(|known| known != id);
        self.clock.is_fresh(issued).then_some(session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive() // sessions are secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    fn resumption(options: &SessionResumption) -> (Resumption, Arc<TestClock>) {
        let clock = Arc::new(TestClock::at(1_800_000_000));
        let time: Arc<dyn TimeProvider> = Arc::clone(&clock) as _;
        (Resumption::new(options, &time), clock)
    }

    #[test]
    fn tickets_expire() {
        let timeout = Some(Duration::from_secs(60));
        let (resumption, clock) = resumption(&SessionResumption { timeout, ..Default::default() });
        let tickets = resumption.tickets.unwrap();
        assert_eq!(tickets.lifetime(), 60);
        let ticket = tickets.encrypt(b"session").unwrap();
        clock.advance(60);
        assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        clock.advance(1);
        assert_eq!(tickets.decrypt(&ticket), None);
        clock.advance(-100);
        assert_eq!(tickets.decrypt(&ticket), None, "issued in the future");
    }

    #[test]
    fn another_set_of_rules_knows_nothing_of_a_ticket() {
        let (a, _) = resumption(&SessionResumption::default());
        let (b, _) = resumption(&SessionResumption::default());
        let ticket = a.tickets.as_ref().unwrap().encrypt(b"session").unwrap();
        assert_eq!(b.tickets.unwrap().decrypt(&ticket), None);
    }

    #[test]
    fn stored_sessions_expire_and_are_bounded() {
        let (resumption, clock) = resumption(&SessionResumption::default());
        let store = resumption.store;
        let id = |n: usize| n.to_be_bytes().to_vec();
        for n in 0..=MAX_STORED {
            assert!(store.put(id(n), vec![1]));
        }
        assert_eq!(store.get(&id(0)), None, "the oldest went");
        assert_eq!(store.get(&id(1)), Some(vec![1]));
        assert_eq!(store.take(&id(1)), Some(vec![1]));
        assert_eq!(store.get(&id(1)), None);
        clock.advance(DEFAULT_TIMEOUT.as_secs() as i64 + 1);
        assert_eq!(store.get(&id(2)), None);
    }

    #[test]
    fn what_is_disabled_is_not_there() {
        let (none, _) =
            resumption(&SessionResumption { disable_stateless: true, disable_stateful: true, timeout: None });
        assert!(none.tickets.is_none() && !none.store.can_cache());
        let (zero, _) = resumption(&SessionResumption { timeout: Some(Duration::ZERO), ..Default::default() });
        assert!(zero.tickets.is_none() && !zero.store.can_cache());
    }
}
