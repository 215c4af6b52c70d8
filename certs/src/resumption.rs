//! Session resumption of a server context: tickets that expire, and a bounded store for TLS 1.2 session IDs.
//!
//! One [`Resumption`] belongs to one set of validation rules and names; a context makes a new one when they change, so that nobody
//! resumes past a changed trust bundle. Sessions hold the peer's certificates, which are judged again on resumption.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, StoresServerSessions};
use rustls::time_provider::TimeProvider;

use crate::info::sha256;

/// BoringSSL's default `session_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);
/// Sessions that are kept for clients without tickets. A session with a client's certificates takes about 2 KiB.
const MAX_STORED: usize = 1024;

/// `disable_stateless_session_resumption`, `disable_stateful_session_resumption`, `session_timeout`.
#[derive(Debug, Clone, Default)]
pub struct SessionResumption {
    /// No tickets: TLS 1.3 clients cannot resume then.
    pub disable_stateless: bool,
    /// No session IDs, which only TLS 1.2 has.
    pub disable_stateful: bool,
    /// `session_ticket_keys`: with the same keys, what one process issued another one resumes. Without, each has its own.
    pub keys: Option<Arc<TicketKeys>>,
    /// How long a session may be resumed; 2 hours by default, half a day at most. Zero: not at all.
    pub timeout: Option<Duration>,
}

/// `TlsSessionTicketKeys`: the first encrypts new tickets, all decrypt.
pub struct TicketKeys {
    keys: Vec<TicketKey>,
}

struct TicketKey {
    name: [u8; 16],
    aead: RandomizedNonceKey,
}

/// Keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketKeysError {
    /// None at all.
    #[error("expected at least one session ticket key")]
    None,
    /// Envoy's size: a name of 16 bytes, 32 for HMAC, 32 for AES.
    #[error("incorrect TLS session ticket key length: expected 80 bytes, got {0}")]
    Length(usize),
    /// Out of memory, or no randomness.
    #[error("the session ticket key cannot be used")]
    Unusable,
}

impl TicketKeys {
    /// From keys of 80 bytes, of which the first 16 name the key.
    ///
    /// # Errors
    /// No key, or one of another length.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, TicketKeysError> {
        let one = |key: K| {
            let key = key.as_ref();
            let name = *key.first_chunk().filter(|_| key.len() == 80).ok_or(TicketKeysError::Length(key.len()))?;
            // One key for one use: all 64 secret bytes go into it.
            let secret = sha256(&[b"session ticket AES-256-GCM", key].concat());
            let aead = RandomizedNonceKey::new(&AES_256_GCM, &secret).map_err(|_| TicketKeysError::Unusable)?;
            Ok(TicketKey { name, aead })
        };
        let keys = keys.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(TicketKeysError::None) } else { Ok(Self { keys }) }
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").field("keys", &self.keys.len()).finish_non_exhaustive() // keys are secret
    }
}

/// Tickets under keys that others share: `name || nonce || ciphertext and tag`.
#[derive(Debug)]
struct SharedTickets {
    keys: Arc<TicketKeys>,
    /// Authenticated with each ticket: whom it let in, and who did.
    bound_to: [u8; 32],
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::MAX // the configured timeout is shorter
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.keys.first()?;
        let mut sealed = plain.to_vec();
        let nonce = key.aead.seal_in_place_append_tag(Aad::from(self.bound_to), &mut sealed).ok()?;
        Some([&key.name, nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_first_chunk::<16>()?;
        let (nonce, sealed) = rest.split_first_chunk::<12>()?;
        let key = self.keys.keys.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.aead.open_in_place(nonce, Aad::from(self.bound_to), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

pub(crate) struct Resumption {
    pub(crate) tickets: Option<Arc<dyn ProducesTickets>>,
    pub(crate) store: Arc<dyn StoresServerSessions>,
}

impl Resumption {
    /// `bound_to` stands for the names of the server and the authorities that it trusts.
    pub(crate) fn new(options: &SessionResumption, time: &Arc<dyn TimeProvider>, bound_to: [u8; 32]) -> Self {
        let timeout = options.timeout.unwrap_or(DEFAULT_TIMEOUT).as_secs();
        let clock = Clock { time: Arc::clone(time), timeout };
        let tickets = match &options.keys {
            _ if options.disable_stateless || timeout == 0 => None,
            Some(keys) => {
                let keys = Arc::clone(keys);
                Some(Arc::new(SharedTickets { keys, bound_to }) as Arc<dyn ProducesTickets>)
            }
            None => Ticketer::new().ok(),
        };
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
        (Resumption::new(options, &time, [0; 32]), clock)
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
    fn shared_keys_open_what_another_process_issued_to_the_same_trust() {
        let key = |first: u8| [[first; 16].as_slice(), &[7; 64]].concat();
        let process = |keys: &[u8], bound_to| {
            let keys = Some(Arc::new(TicketKeys::new(keys.iter().map(|first| key(*first))).unwrap()));
            let time: Arc<dyn TimeProvider> = Arc::new(TestClock::at(1_800_000_000));
            Resumption::new(&SessionResumption { keys, ..Default::default() }, &time, [bound_to; 32]).tickets.unwrap()
        };
        let ticket = process(&[1], 0).encrypt(b"session").unwrap();
        assert_ne!(ticket, process(&[1], 0).encrypt(b"session").unwrap(), "the nonce is fresh");
        assert_eq!(process(&[1], 0).decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(process(&[2, 1], 0).decrypt(&ticket).as_deref(), Some(&b"session"[..]), "an older key");
        assert_eq!(process(&[2], 0).decrypt(&ticket), None, "a key that is gone");
        assert_eq!(process(&[1], 1).decrypt(&ticket), None, "another trust");
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(process(&[1], 0).decrypt(&forged), None, "{at}");
        }
        assert_eq!(process(&[1], 0).decrypt(&ticket[..27]), None);
        assert_eq!(TicketKeys::new([[0; 79].as_slice()]).unwrap_err(), TicketKeysError::Length(79));
        assert_eq!(TicketKeys::new(Vec::<Vec<u8>>::new()).unwrap_err(), TicketKeysError::None);
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
            resumption(&SessionResumption { disable_stateless: true, disable_stateful: true, ..Default::default() });
        assert!(none.tickets.is_none() && !none.store.can_cache());
        let (zero, _) = resumption(&SessionResumption { timeout: Some(Duration::ZERO), ..Default::default() });
        assert!(zero.tickets.is_none() && !zero.store.can_cache());
    }
}
