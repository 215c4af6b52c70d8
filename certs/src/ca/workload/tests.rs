use std::cell::Cell;

use tonic::Code;

use super::*;
use crate::ca::istio::{IstioCa, IstioCaOptions};
use crate::testing::{Ca, CaServer};

const START: u64 = 1_800_000_000;

/// Tokio's clock, which tests can stop.
#[derive(Debug)]
struct TokioClock(tokio::time::Instant);

impl TimeProvider for TokioClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(START) + self.0.elapsed()))
    }
}

fn options() -> WorkloadOptions {
    WorkloadOptions {
        id: SpiffeId::parse("spiffe://cluster.local/ns/default/sa/a").unwrap(),
        key: KeySpec::EcdsaP256,
        validity: Duration::from_secs(3600),
        renewal: RenewalOptions::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_renewed_and_kept_while_the_authority_is_away() {
    let time = Arc::new(TokioClock(tokio::time::Instant::now()));
    let server = CaServer::new(Ca::new("root"), Arc::clone(&time) as _);
    let ca = IstioCa::new(IstioCaOptions::default(), || async {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(Arc::clone(&server).serve(far));
        Ok(near)
    });
    server.refuse_next(Code::Unavailable, "starting");
    server.refuse_next(Code::PermissionDenied, "not yet");
    let workload = Workload::new(options());
    let events = Cell::new(0);
    let minutes = || time.0.elapsed().as_secs() / 60;
    let until = async |count: usize| {
        let reached = || events.get() >= count;
        let run = workload.run(&ca, &*time, || events.set(events.get() + 1));
        let mut run = std::pin::pin!(run);
        std::future::poll_fn(|cx| {
            assert!(run.as_mut().poll(cx).is_pending());
            if reached() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    };
    // The future is dropped and made anew between the steps: it goes on from where it was.
    until(1).await;
    assert!(matches!(workload.last_error(), Some(CaError::Refused { code, .. }) if code == "Unavailable"));
    assert!(workload.issued().get().is_none());
    until(3).await;
    assert_eq!((workload.last_error(), workload.issued().version(), minutes()), (None, 1, 0));
    let first = workload.issued().get().unwrap();
    let end = first.validity().1;
    assert!((1_800_003_600..1_800_003_610).contains(&end), "{end}");

    for _ in 0..3 {
        server.refuse_next(Code::Unavailable, "away");
    }
    until(4).await;
    assert!((29..=30).contains(&minutes()), "{}", minutes());
    until(6).await;
    assert!(workload.last_error().is_some() && Arc::ptr_eq(&first, &workload.issued().get().unwrap()));
    until(7).await;
    let second = workload.issued().get().unwrap();
    assert!(workload.last_error().is_none() && second.validity().1 > end && workload.issued().version() == 2);
    until(8).await;
    assert!((58..=62).contains(&minutes()), "{}", minutes());
    let keys: std::collections::BTreeSet<_> = server.seen().iter().map(|seen| seen.request.csr.clone()).collect();
    assert_eq!((keys.len(), server.seen().len()), (8, 8), "each request has a key of its own");
}
